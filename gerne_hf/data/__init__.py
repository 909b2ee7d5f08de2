"""One module a data set: each turns the raw schema into text or image, label and attribute columns."""
