"""The web app: head browser, rating pages, lead pages and the JSON API."""
