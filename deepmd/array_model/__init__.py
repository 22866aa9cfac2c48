"""The physics: pure functions over the array API standard. Imports the standard library and itself only."""
