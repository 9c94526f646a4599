"""The skeletons of the emitted files."""
