"""Write the depth of each frame beside its picture, as `passes.yaml` asks for it; for Blender 3 and 4."""

import sys

import bpy

scene = bpy.context.scene
scene.view_layers[0].use_pass_z = True
scene.use_nodes = True
tree = scene.node_tree
tree.nodes.clear()
layers = tree.nodes.new("CompositorNodeRLayers")
picture = tree.nodes.new("CompositorNodeComposite")
depth = tree.nodes.new("CompositorNodeOutputFile")
depth.base_path = sys.argv[-1]
depth.format.file_format = "OPEN_EXR"
depth.file_slots[0].path = "ring_#####"
tree.links.new(layers.outputs["Image"], picture.inputs[0])
tree.links.new(layers.outputs["Depth"], depth.inputs[0])
