"""DeePMD-kit's files: the layouts of its `.dp`, readers of its `.pth`, `.pt`, `.pb` and checkpoints, and old inputs."""
