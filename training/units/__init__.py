"""Speech as discrete units: frames of a layer of a speech encoder, each the number of its nearest centroid."""
