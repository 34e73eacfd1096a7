package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a headless Chromium that is driven through the pipe of its DevTools.
type browser struct {
	t  *testing.T
	to io.Writer

	mu      sync.Mutex
	last    int
	answers map[int]chan devtoolsMessage
	said    []string // what pages have complained about
	gone    chan struct{}
}

// devtoolsMessage is an answer or, if it has a Method, an event.
type devtoolsMessage struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startBrowser starts a browser for the time of the test, which is skipped if
// there is none. A browser takes seconds, so such tests run beside each other, once those
// are over that look at all processes.
func startBrowser(t *testing.T) *browser {
	if testing.Short() {
		t.Skip("a browser takes seconds to start")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here: the status page is not tested")
	}
	t.Parallel()
	fromUs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir="+dir, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4, as it wants them.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	b := &browser{t: t, to: to, answers: make(map[int]chan devtoolsMessage), gone: make(chan struct{})}
	go b.listen(from)
	t.Cleanup(func() {
		b.send("", "Browser.close", nil)
		select {
		case <-b.gone:
		case <-time.After(patience):
			t.Error("the browser does not close")
			cmd.Process.Kill()
		}
		to.Close()
		cmd.Wait()
		if !happens(func() bool { return os.RemoveAll(dir) == nil }) { // Its other processes end, and write, a little later.
			t.Errorf("%s is left", dir)
		}
	})
	return b
}

// listen takes in what the browser says, until it closes.
func (b *browser) listen(from *os.File) {
	defer close(b.gone)
	defer from.Close()
	for r := bufio.NewReader(from); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtoolsMessage
		if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); err != nil {
			b.t.Errorf("the browser says %q: %v", text, err)
			return
		}
		b.take(m)
	}
}

func (b *browser) take(m devtoolsMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch m.Method {
	case "":
		if answer := b.answers[m.ID]; answer != nil {
			answer <- m
			delete(b.answers, m.ID)
		}
	case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled":
		b.said = append(b.said, m.Method+" "+string(m.Params[:min(len(m.Params), 1500)]))
	}
}

// send sends a command without waiting for its answer.
func (b *browser) send(session, method string, params any) chan devtoolsMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	answer := make(chan devtoolsMessage, 1)
	b.answers[b.last] = answer
	command := map[string]any{"id": b.last, "method": method}
	if params != nil {
		command["params"] = params
	}
	if session != "" {
		command["sessionId"] = session
	}
	text, _ := json.Marshal(command)
	b.to.Write(append(text, 0))
	return answer
}

// call sends a command and puts its result into v, if that is not nil.
func (b *browser) call(session, method string, params, v any) {
	b.t.Helper()
	select {
	case m := <-b.send(session, method, params):
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if v == nil {
			return
		}
		if err := json.Unmarshal(m.Result, v); err != nil {
			b.t.Fatalf("%s: %v in %s", method, err, m.Result)
		}
	case <-b.gone:
		b.t.Fatalf("%s: the browser has gone", method)
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
}

// complaints returns what pages have complained about since it was last asked.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// tab is a page in a browser.
type tab struct {
	*browser
	session string
}

// open opens a page of a given size in a tab of its own.
func (b *browser) open(url string, width, height int) *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	tab := &tab{b, attached.SessionID}
	for _, domain := range []string{"Page", "Runtime", "Log", "Accessibility"} {
		tab.do(domain+".enable", nil, nil)
	}
	tab.resize(width, height)
	tab.do("Page.navigate", map[string]any{"url": url}, nil)
	return tab
}

func (tab *tab) do(method string, params, v any) {
	tab.t.Helper()
	tab.call(tab.session, method, params, v)
}

// resize makes the window so large.
func (tab *tab) resize(width, height int) {
	tab.t.Helper()
	tab.do("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1.5, "mobile": false,
	}, nil)
}

// media sets what the page is told of its reader, such as prefers-color-scheme.
func (tab *tab) media(features ...string) {
	tab.t.Helper()
	list := []map[string]string{}
	for _, f := range features {
		name, value, _ := strings.Cut(f, "=")
		list = append(list, map[string]string{"name": name, "value": value})
	}
	tab.do("Emulation.setEmulatedMedia", map[string]any{"features": list}, nil)
}

// eval returns the value of an expression in the page, as text.
func (tab *tab) eval(expression string) string {
	tab.t.Helper()
	var result struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	tab.do("Runtime.evaluate", map[string]any{
		"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true,
	}, &result)
	if result.ExceptionDetails != nil {
		tab.t.Fatalf("%s: %s", expression, result.ExceptionDetails)
	}
	return fmt.Sprint(result.Result.Value)
}

// await waits until an expression in the page is true. That it cannot be
// evaluated yet is as good as false.
func (tab *tab) await(expression string) {
	tab.t.Helper()
	for end := time.Now().Add(patience); tab.eval("(() => { try { return !!("+expression+") } catch { return false } })()") != "true"; {
		if time.Now().After(end) {
			tab.t.Fatalf("never: %s; the page complains %q and says\n%s",
				expression, tab.complaints(), tab.eval("document.body.innerText"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// press presses a key as a person would.
func (tab *tab) press(key string, code int) {
	tab.t.Helper()
	event := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code}
	if key == "Enter" {
		event["text"] = "\r"
	}
	tab.do("Input.dispatchKeyEvent", event, nil)
	event["type"] = "keyUp"
	delete(event, "text")
	tab.do("Input.dispatchKeyEvent", event, nil)
}

// picture returns the whole page as a PNG.
func (tab *tab) picture() []byte {
	tab.t.Helper()
	var shot struct{ Data string }
	tab.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		tab.t.Fatal(err)
	}
	return png
}
