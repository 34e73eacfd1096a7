//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/scheduler/examples/internal/demo"
)

// pipedProxy starts a proxy whose stdout and stderr are these, and which listens at
// an address that the test has chosen, since it may never say where. Its model alpha
// prints without end once it is loaded.
func pipedProxy(t *testing.T, stdout, stderr *os.File) *proxyProcess {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	file := filepath.Join(t.TempDir(), "models.json")
	script := fmt.Sprintf("(yes 'a line of the model that nobody reads'; kill $$) & exec '%s' %s -port ${PORT} -load 0s -delay 0s", self(t), demo.Command)
	text := fmt.Sprintf(`{"models": {"alpha": {"command": ["sh", "-c", %q]}}}`, script)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &proxyProcess{t: t, url: "http://" + address}
	p.cmd = exec.Command(os.Args[0], proxyRole, "-listen", address, "-config", file, "-log", "debug")
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill()
			p.cmd.Wait()
		}
	})
	return p
}

// mustServe waits until the proxy answers, and lets its model serve a few times.
func (p *proxyProcess) mustServe() {
	p.t.Helper()
	client := newClient(p.t)
	if !happens(func() bool {
		resp, err := client.Get(p.url + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}) {
		p.t.Fatal("it does not answer")
	}
	for range 5 {
		if code, text, err := chat(client, p.url, "alpha", false); code != http.StatusOK {
			p.t.Fatalf("%d %s %v", code, text, err)
		}
	}
}

// mustEnd ends the proxy by SIGTERM.
func (p *proxyProcess) mustEnd() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	killer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	p.cmd.Wait()
	if !killer.Stop() || p.cmd.ProcessState.ExitCode() != 0 {
		p.t.Errorf("it ended with: %v", p.cmd.ProcessState)
	}
}

// fullPipe returns a pipe that takes not a byte more.
func fullPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for page := make([]byte, 4096); ; {
		if _, err := syscall.Write(fds[1], page); err != nil {
			break
		}
	}
	syscall.SetNonblock(fds[1], false)
	r, w = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// A reader who has stopped reading what the proxy prints stops nothing else.
func TestPipesFull(t *testing.T) {
	_, stdout := fullPipe(t)
	_, stderr := fullPipe(t)
	p := pipedProxy(t, stdout, stderr)
	p.mustServe()
	p.mustEnd()
}

// A reader who has gone does not take the proxy with it.
func TestPipesBroken(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	p := pipedProxy(t, w, w)
	p.mustServe()
	p.mustEnd()
}

// A reader who reads again is told how much is missing.
func TestPipeReadAgain(t *testing.T) {
	r, w := fullPipe(t)
	p := pipedProxy(t, nil, w)
	w.Close()
	p.mustServe()
	text := make(chan string)
	go func() {
		var said bytes.Buffer
		for found := false; !found; {
			chunk := make([]byte, 4096)
			n, err := r.Read(chunk)
			said.Write(chunk[:n])
			found = err != nil || bytes.Contains(said.Bytes(), []byte("lines lost"))
		}
		text <- said.String()
		io.Copy(io.Discard, r)
	}()
	select {
	case said := <-text:
		mustContain(t, said, "level=ERROR", "lines lost", "lines=")
	case <-time.After(patience):
		t.Error("nothing is said")
	}
	p.mustEnd()
}

// SIGPIPE still ends what the proxy starts.
func TestModelsGetSIGPIPE(t *testing.T) {
	p := startProxyProcess(t)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:")
	if ignored, _, _ := strings.Cut(strings.TrimSpace(rest), "\n"); strings.Trim(ignored, "0") != "" {
		t.Errorf("the proxy ignores the signals %s, and so would its models", ignored)
	}
	p.mustEnd()
}
