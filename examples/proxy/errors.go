package main

import "net/http"

// writeError answers a request with an error.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusBadGateway)
}
