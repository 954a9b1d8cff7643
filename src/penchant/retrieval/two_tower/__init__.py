"""Two towers: vectors of items from attributes and ids, and of people from their live history, searched by product."""
