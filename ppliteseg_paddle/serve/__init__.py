"""An exported model as a service: a page, JSON and images over HTTP. Needs `pip install '.[serve]'`."""
