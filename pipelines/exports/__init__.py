"""Handing a corpus on, in the forms that others read."""
