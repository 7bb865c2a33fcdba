"""dlib's face networks, read from its own files: detector, five points, embedding."""
