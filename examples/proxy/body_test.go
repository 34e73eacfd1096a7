package main

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// heap returns the size of what is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // What the first has put aside, as in a sync.Pool.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHeldIsWhatIsInMemory: in every phase of a request, its body takes as much memory
// as is counted, and no more than there is room for; what is refused takes none.
func TestHeldIsWhatIsInMemory(t *testing.T) {
	const room, size, clients = 32 << 20, 8 << 20, 8
	answers := make(chan struct{})
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.MaxHeld = room
	}), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		http.NewResponseController(w).Flush()
		<-answers
	}, true)
	before := heap()
	check := func(phase string, held int64) {
		t.Helper()
		if !happens(func() bool { return f.front.held.held.Load() == held }) {
			t.Fatalf("%s: %d bytes are held, not %d", phase, f.front.held.held.Load(), held)
		}
		if more := heap() - before; more > held+size {
			t.Errorf("%s: %d MiB in memory, %d MiB counted", phase, more>>20, held>>20)
		}
	}
	padding := strings.Repeat("x", size)
	before = heap()
	for _, kind := range []struct{ name, begin, end string }{
		{"application/json", `{"x":"`, `","model":"m"}`},
		{partsType, "--B\r\nContent-Disposition: form-data; name=x\r\n\r\n", "\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--B--\r\n"},
	} {
		length := len(kind.begin) + size + len(kind.end)
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", chatPath, kind.name, length)
		var finish []func()
		refused := 0
		for range clients {
			conn, r := f.rawRequest("")
			sent := make(chan error)
			go func() {
				_, err := io.WriteString(conn, head+kind.begin+padding)
				sent <- err
			}()
			held := f.front.held.held.Load()
			if held+int64(length) > room {
				resp, text := rawAnswer(t, r)
				if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %d %q", kind.name, resp.StatusCode, text)
				}
				conn.Close()
				<-sent
				refused++
				continue
			}
			<-sent
			f.until(func(scheduler.Snapshot) bool { return f.front.held.held.Load() >= held+size })
			finish = append(finish, func() { io.WriteString(conn, kind.end) })
		}
		if refused != clients-room/size+1 {
			t.Errorf("%s: %d were refused", kind.name, refused)
		}
		n := int64(len(finish))
		// The last piece of each is counted, though not all of it may have come.
		held := f.front.held.held.Load()
		if held < n*size || held > n*int64(length) {
			t.Errorf("%s: %d bytes are held", kind.name, held)
		}
		check("looked for", held)
		for _, end := range finish {
			end()
		}
		f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == len(finish) })
		check("waiting", n*int64(length))
		f.gate <- nil
		check("served", 0)
		for range finish {
			answers <- struct{}{}
		}
		f.until(func(s scheduler.Snapshot) bool { return s.Models[0].InFlight == 0 })
		f.do("POST", "/unload", "")
	}
}

// TestLongBodyPassesThrough: a body of a loaded model that names it first is held no
// more than in part, however long it is.
func TestLongBodyPassesThrough(t *testing.T) {
	var most int64
	var f *frontTest
	f = newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { c.MaxHeld = 64 << 10 }), func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, readerFunc(func(p []byte) (int, error) {
			most = max(most, f.front.held.held.Load())
			return r.Body.Read(p)
		}))
		fmt.Fprint(w, n, err)
	}, false)
	f.do("POST", "/load?model=m", "")
	body := `{"model":"m","x":"` + strings.Repeat("x", 32<<20) + `"}`
	if resp, text := f.do("POST", chatPath, body); resp.StatusCode != 200 || text != fmt.Sprint(len(body), nil) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if most > 64<<10 {
		t.Errorf("%d bytes were held", most)
	}
}

// TestTrickle: a body that comes byte by byte takes no more than it is long, about.
func TestTrickle(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, true)
	conn, _ := f.rawRequest("POST " + chatPath + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
	const bytes = 3000
	for i, c := range []byte(`{"model":"m","x":"` + strings.Repeat("x", bytes)) {
		fmt.Fprintf(conn, "1\r\n%c\r\n", c)
		if i == len(`{"model":"m",`) {
			f.until(func(s scheduler.Snapshot) bool { return len(s.Waiting) == 1 })
		}
	}
	if !happens(func() bool { return f.front.held.held.Load() > bytes }) {
		t.Fatal("it does not come")
	}
	if held := f.front.held.held.Load(); held > 2*bytes+1024 {
		t.Errorf("%d bytes are held", held)
	}
}

// TestKeptIsCounted: what is kept to be sent again is counted until the answer begins, and
// is not kept if there is no room for it.
func TestKeptIsCounted(t *testing.T) {
	began, answer := make(chan struct{}), make(chan struct{})
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { c.MaxHeld = 48 << 10 }), func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		began <- struct{}{}
		<-answer
		http.NewResponseController(w).Flush()
		<-answer
	}, false)
	f.do("POST", "/load?model=m", "")
	for _, c := range []struct{ length, kept int64 }{{1 << 10, 1 << 10}, {32 << 10, 32 << 10}, {60 << 10, 0}} {
		body := `{"model":"m","x":"`
		f.rawRequest(chatRequest(int(c.length), body+strings.Repeat("x", int(c.length)-len(body))))
		<-began
		if held := f.front.held.held.Load(); held != c.kept {
			t.Errorf("%d bytes: %d are held, not %d", c.length, held, c.kept)
		}
		answer <- struct{}{}
		if !happens(func() bool { return f.front.held.held.Load() == 0 }) {
			t.Errorf("%d bytes: %d are held at the end", c.length, f.front.held.held.Load())
		}
		answer <- struct{}{}
	}
}
