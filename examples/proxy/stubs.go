package main

import "time"

// Each of these goes when its file arrives.

type output struct{}

func newOutput() *output { return &output{} }

type metrics struct{}

func newMetrics() *metrics { return &metrics{} }

func (m *metrics) loaded(string, time.Duration, error) {}
