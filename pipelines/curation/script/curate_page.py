"""What Streamlit runs for every interaction; alone in its folder, which Streamlit puts at the front of sys.path."""

from seamlessalign.pipelines.curation.page import show

show()
