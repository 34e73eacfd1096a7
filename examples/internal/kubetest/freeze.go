package kubetest

import (
	"net"
	"sync"
)

// coldListener accepts connections that can freeze.
type coldListener struct {
	net.Listener
	faults *Faults
}

// Accept implements [net.Listener].
func (l coldListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &coldConn{Conn: conn, faults: l.faults, closed: make(chan struct{})}, nil
}

// coldConn is a connection that can freeze.
type coldConn struct {
	net.Conn
	faults *Faults
	once   sync.Once
	closed chan struct{}
}

// Read implements [net.Conn].
func (c *coldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wait() // Afterwards: it may have waited for data when the freeze began.
	return n, err
}

// Write implements [net.Conn].
func (c *coldConn) Write(p []byte) (int, error) {
	c.wait()
	return c.Conn.Write(p)
}

// Close implements [net.Conn].
func (c *coldConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// wait waits for the thaw.
func (c *coldConn) wait() {
	c.faults.mu.Lock()
	ice := c.faults.ice
	c.faults.mu.Unlock()
	if ice == nil {
		return
	}
	select {
	case <-ice:
	case <-c.closed:
	}
}
