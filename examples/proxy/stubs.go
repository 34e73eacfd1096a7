package main

import "errors"

// Each of these goes when its file arrives.

// badRequest makes an error that is answered with 400.
func badRequest(text string) error { return errors.New(text) }
