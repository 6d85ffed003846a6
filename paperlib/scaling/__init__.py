"""The limitation of section 6, "the scalability of k-means to large datasets", and the price of explaining."""
