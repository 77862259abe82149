package migrations

// Provider is for tests that stop on the way.
var Provider = provider
