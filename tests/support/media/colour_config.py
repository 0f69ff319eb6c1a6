"""A configuration of OpenColorIO for tests, whose one conversion can be computed by hand."""

# Samples are the square roots of light.
ROOTS = """\
ocio_profile_version: 1
roles: {default: light, scene_linear: light}
displays:
  screen:
    - !<View> {name: plain, colorspace: roots}
colorspaces:
  - !<ColorSpace> {name: light}
  - !<ColorSpace>
    name: roots
    to_reference: !<ExponentTransform> {value: [2, 2, 2, 1]}
"""
