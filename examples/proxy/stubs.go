package main

// Each of these goes when its file arrives.

type output struct{}

func newOutput() *output { return &output{} }
