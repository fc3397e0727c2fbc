"""From study folders to trials (`read`), and from trials to a comparison (`comparison`) or a page (`study_page`).

Reads files through `store`; prints nothing.
"""
