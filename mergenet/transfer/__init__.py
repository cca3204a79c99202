"""The method: from the source's weight through an adapter into the target's."""
