package main

import (
	"fmt"
	"net"
	"sync"
)

// ports are those of this proxy's models.
var ports = portPool{taken: make(map[int]bool)}

// portPool chooses free ports of the loopback address. A port is free as long as
// nobody listens, so one that has been chosen for a process that does not listen
// yet has to be remembered.
type portPool struct {
	mu    sync.Mutex
	taken map[int]bool
}

// take returns a port that nobody has.
func (p *portPool) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, fmt.Errorf("no free port: %w", err)
		}
		defer l.Close() // Not before return, so that the next one is another.
		port := l.Addr().(*net.TCPAddr).Port
		if !p.taken[port] {
			p.taken[port] = true
			return port, nil
		}
	}
}

// give gives a port back.
func (p *portPool) give(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, port)
}
