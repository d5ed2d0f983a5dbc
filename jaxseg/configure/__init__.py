"""Recipes from data: what decides of a data set (look), decisions with their reasons (choose), the recipe (write)."""
