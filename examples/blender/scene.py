"""Build a small scene in an empty Blender: the same for every chunk, so that all chunks fit together.

Run by the job files beside it; needs no .blend file. Differences between frames are keyed, never random.
"""

import math
import sys

import bpy

FRAMES = 24


def build(width: int, height: int, samples: int) -> None:
    """Build a ring of cubes that turns about a ball, and set how it is rendered."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    # Not every build of Blender has a denoiser.
    scene.cycles.use_denoising = False
    # One seed for all frames would make the noise stand still; a seed by frame number is the same on every host.
    scene.cycles.seed = 0
    scene.cycles.use_animated_seed = True
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.view_settings.view_transform = "Standard"
    world = scene.world = bpy.data.worlds.new("World")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (0.02, 0.03, 0.06, 1)
    bpy.ops.mesh.primitive_plane_add(size=60, location=(0, 0, -1))
    bpy.context.object.data.materials.append(make_material("floor", (0.15, 0.16, 0.2), roughness=0.35))
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=1)
    bpy.ops.object.shade_smooth()
    bpy.context.object.data.materials.append(make_material("ball", (0.9, 0.45, 0.1), roughness=0.15))
    bpy.ops.object.empty_add()
    ring = bpy.context.object
    for index in range(12):
        angle = index * math.tau / 12
        place = (2.4 * math.cos(angle), 2.4 * math.sin(angle), 0.5 * math.sin(3 * angle))
        bpy.ops.mesh.primitive_cube_add(size=0.6, location=place, rotation=(angle, 0.5, angle))
        cube = bpy.context.object
        cube.data.materials.append(
            make_material(f"cube {index}", (0.1, 0.25 + index / 24, 0.9 - index / 24), roughness=0.3)
        )
        cube.parent = ring
    ring.keyframe_insert("rotation_euler", frame=1)
    ring.rotation_euler = (0, 0, math.tau / 12 * 2)
    ring.keyframe_insert("rotation_euler", frame=FRAMES + 1)
    for curve in ring.animation_data.action.fcurves:
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    add_light(scene, (4, -3, 6), 900)
    add_camera(scene, (0, -8, 3.4))


def make_material(name: str, colour: tuple[float, float, float], *, roughness: float) -> bpy.types.Material:
    """Make a plain material."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    surface = made.node_tree.nodes["Principled BSDF"]
    surface.inputs["Base Color"].default_value = (*colour, 1)
    surface.inputs["Roughness"].default_value = roughness
    return made


def add_light(scene: bpy.types.Scene, place: tuple[float, float, float], watts: float) -> None:
    """Add a square light that points at the ball."""
    data = bpy.data.lights.new("light", "AREA")
    data.energy, data.size = watts, 3
    lamp = bpy.data.objects.new("light", data)
    lamp.location = place
    scene.collection.objects.link(lamp)
    point_at_ball(scene, lamp)


def add_camera(scene: bpy.types.Scene, place: tuple[float, float, float]) -> None:
    """Add the camera, pointed at the ball."""
    eye = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    eye.location = place
    scene.collection.objects.link(eye)
    scene.camera = eye
    point_at_ball(scene, eye)


def point_at_ball(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    """Point an object at the ball."""
    middle = scene.objects["Sphere"]
    constraint = thing.constraints.new("TRACK_TO")
    constraint.target, constraint.track_axis, constraint.up_axis = middle, "TRACK_NEGATIVE_Z", "UP_Y"


# Blender passes the arguments after `--` to scripts.
given = [int(word) for word in sys.argv[sys.argv.index("--") + 1 :][:3]]
build(*given)
