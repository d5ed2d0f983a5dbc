"""One file per kind of prediction; each registers its painters, and all of them are found by themselves."""
