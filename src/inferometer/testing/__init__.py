"""What tests of this project and of extensions to it stand on: shipped, so that others can use it too."""
