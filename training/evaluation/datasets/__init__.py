"""Test sets as their publishers distribute them, read into rows: FLEURS, CoVoST 2, CVSS, FLORES-200 and FLORES+."""
