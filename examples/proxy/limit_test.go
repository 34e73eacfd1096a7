//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/scheduler/examples/internal/demo"
)

// More callers than there can be open files all get their answers. Meanwhile a model is
// loaded, the log says what is short, and the proxy can be ended.
func TestFewFiles(t *testing.T) {
	t.Setenv(filesVariable, "64")
	gate := filepath.Join(t.TempDir(), "gate")
	script := fmt.Sprintf("until [ -e '%s' ]; do sleep 0.05; done; exec '%s' %s -port ${PORT} -load 0s -delay 0s", gate, self(t), demo.Command)
	p := startProxyProcess(t, "-config", writeConfig(t, fmt.Sprintf(`{"models": {"a": {"command": ["sh", "-c", %q]}}}`, script)))
	var all sync.WaitGroup
	client := newClient(t)
	client.Transport.(*http.Transport).DisableKeepAlives = true
	for range 100 {
		all.Go(func() {
			if code, text, err := chat(client, p.url, "a", false); code != http.StatusOK {
				t.Errorf("%d %s %v", code, text, err)
			}
		})
	}
	if !happens(func() bool { return strings.Contains(p.stderr.String(), "limit of open files") }) {
		t.Error("nothing is said")
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	mustContain(t, p.stderr.String(), "level=WARN", "model ready")
	if strings.Contains(p.stderr.String(), "too many open files") {
		t.Error("files were short all the same")
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// Callers who keep their connections, and do nothing with them, are in nobody's way;
// those who hold all that there is keep the proxy from nothing but accepting more.
func TestFewFilesIdle(t *testing.T) {
	t.Setenv(filesVariable, "64")
	p := startProxyProcess(t)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	for range 100 {
		conn := dial()
		io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	for range 100 {
		dial()
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}
