"""One alert when a promise breaks and one when it holds again: kept in a book, sent to sinks."""
