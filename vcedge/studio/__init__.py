"""The studio: a page on which objects are drawn, followed, corrected and exported."""
