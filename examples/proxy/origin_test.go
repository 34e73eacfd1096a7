package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/scheduler"
	"example.com/scheduler/examples/internal/config"
)

// TestFrontForeigners: neither the page of another site nor a name that somebody else
// has pointed to this machine.
func TestFrontForeigners(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Hosts, c.Origins = []string{"models.lan"}, []string{"https://chat.lan"}
	}), echo, false)
	f.front.access.machine = "box"
	for _, c := range []struct {
		status int
		header []string
	}{
		{200, nil},
		{200, []string{"Sec-Fetch-Site", "same-origin"}},
		{200, []string{"Sec-Fetch-Site", "none"}},
		{403, []string{"Sec-Fetch-Site", "cross-site"}},
		{403, []string{"Sec-Fetch-Site", "same-site"}},
		{403, []string{"Origin", "https://evil.example"}},
		{403, []string{"Origin", "null"}},
		{403, []string{"Origin", "https://chat.lan.evil.example", "Sec-Fetch-Site", "cross-site"}},
		{200, []string{"Origin", "https://chat.lan", "Sec-Fetch-Site", "cross-site"}},
		{200, []string{"Origin", "http://localhost:1", "Host", "localhost:1"}},
		{200, []string{"Host", "localhost:1"}},
		{200, []string{"Host", "localhost.:1"}},
		{200, []string{"Host", "BOX:8080"}},
		{200, []string{"Host", "[::1]"}},
		{200, []string{"Host", "[fe80::1]:80"}},
		{200, []string{"Host", "192.168.0.1:8080"}},
		{200, []string{"Host", "MODELS.lan:80"}},
		{403, []string{"Host", "evil.example"}},
		{403, []string{"Host", "localhost.evil.example"}},
		{403, []string{"Host", "1.2.3.4.evil.example"}},
		{403, []string{"Host", "evil.example", "Origin", "https://chat.lan"}},
	} {
		for _, request := range []string{
			"POST /unload?model=m", "GET /upstream/m/v1/models", "HEAD /upstream/m/", "OPTIONS /upstream/m/",
			"GET /v1/audio/voices?model=m", "GET /v1/models", "GET /logs?model=m", "POST /v1/embeddings?model=m",
		} {
			method, path, _ := strings.Cut(request, " ")
			if resp, text := f.do(method, path, "", c.header...); resp.StatusCode != c.status {
				t.Errorf("%s %q: %d %s", request, c.header, resp.StatusCode, text)
			}
		}
	}
	if resp, _ := f.do("GET", "/", "", "Sec-Fetch-Site", "cross-site"); resp.StatusCode != 200 {
		t.Errorf("a link to the status page: %d", resp.StatusCode)
	}
	if _, text := f.do("GET", "/status", "", "Host", "evil.example:80"); !strings.Contains(text, "evil.example:80") || !strings.Contains(text, `\"hosts\"`) {
		t.Errorf("the refusal of a Host says %s", text)
	}
	if _, text := f.do("GET", "/status", "", "Origin", "http://evil.example"); !strings.Contains(text, "http://evil.example") || !strings.Contains(text, `\"origins\"`) {
		t.Errorf("the refusal of an Origin says %s", text)
	}
}

// TestForeignHostBeyondLoopback: the Host header counts wherever the proxy listens, as
// long as no key does.
func TestForeignHostBeyondLoopback(t *testing.T) {
	cfg := oneModel(func(c *config.Config, m *config.Model) { c.Listen = "models.corp.example:80" })
	f := newFrontTest(t, cfg, echo, false)
	f.front.access.loopback = false
	for host, status := range map[string]int{"192.168.0.1:80": 200, "models.corp.example": 200, "evil.example": 403} {
		if resp, text := f.do("GET", "/status", "", "Host", host); resp.StatusCode != status {
			t.Errorf("%s: %d %s", host, resp.StatusCode, text)
		}
	}
	f = newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) { c.Keys = []config.Key{{Name: "one", Key: "sesame"}} }), echo, false)
	f.front.access.loopback = false
	if resp, _ := f.do("GET", "/status", "", "Host", "behind.a.proxy.example", "X-Api-Key", "sesame"); resp.StatusCode != 200 {
		t.Errorf("with a key: %d", resp.StatusCode)
	}
}

// TestNoHost: a client of HTTP/1.0 need not send a Host, and no browser is one.
func TestNoHost(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, false)
	if got := rawStatus(t, f, "GET /status HTTP/1.0\r\n\r\n"); got != 200 {
		t.Errorf("status %d", got)
	}
}

// TestForeignWebsocket: a page of another site opens none, and no model is loaded for
// it.
func TestForeignWebsocket(t *testing.T) {
	f := newFrontTest(t, oneModel(nil), echo, true)
	const handshake = "GET /upstream/m/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	if got := rawStatus(t, f, handshake+"Origin: http://evil.example\r\n\r\n"); got != 403 {
		t.Errorf("status %d", got)
	}
	if s := f.host.status(); len(s.Scheduler.Swaps) != 0 || s.Models[0].State != scheduler.StateStopped {
		t.Errorf("it had an effect: %+v", s)
	}
}

// rawStatus sends a request as it is and returns the status of the answer.
func rawStatus(t *testing.T, f *frontTest, request string) int {
	t.Helper()
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestSharing: the page of a listed origin is told before that it may send what it
// wants to, without a key, and can read each answer, errors too. What the model says
// about that does not count.
func TestSharing(t *testing.T) {
	model := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		echo(w, r)
	}
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Origins = []string{"https://chat.lan", "app://notes"}
		c.Keys = []config.Key{{Name: "one", Key: "sesame"}}
	}), model, false)
	check := func(resp *http.Response, status int, origin string) {
		t.Helper()
		h := resp.Header
		if got := h.Values("Access-Control-Allow-Origin"); resp.StatusCode != status || fmt.Sprint(got) != fmt.Sprintf("[%s]", origin) {
			t.Errorf("%d, for %q, not %d for %q", resp.StatusCode, got, status, origin)
		}
		if h.Get("Vary") != "Origin" || h.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%v", h)
		}
	}
	for _, origin := range []string{"https://chat.lan", "app://notes"} {
		page := []string{"Origin", origin, "Sec-Fetch-Site", "cross-site"}
		for _, path := range []string{chatPath, "/upstream/m/any", "/v1/models", "/health"} {
			resp, _ := f.do("OPTIONS", path, "", append(page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")...)
			check(resp, 204, origin)
			if h := resp.Header; h.Get("Access-Control-Allow-Methods") != "POST" || h.Get("Access-Control-Allow-Headers") != "authorization,content-type" {
				t.Errorf("%s: %v", path, h)
			}
		}
		withKey := append(page, "Authorization", "Bearer sesame")
		for path, status := range map[string]int{chatPath: 200, "/nowhere": 404, "/upstream/x/y": 404} {
			resp, _ := f.do("POST", path, `{"model":"m"}`, withKey...)
			check(resp, status, origin)
		}
		resp, _ := f.do("GET", "/health", "", page...)
		check(resp, 200, origin)
		resp, _ = f.do("POST", chatPath, `{"model":"m"}`, page...)
		check(resp, 401, origin)
	}
	for _, origin := range []string{"https://evil.example", "null", "http://chat.lan", "https://chat.lan:444", "https://CHAT.lan"} {
		resp, _ := f.do("OPTIONS", chatPath, "", "Origin", origin, "Access-Control-Request-Method", "POST")
		check(resp, 403, "")
	}
	resp, _ := f.do("POST", chatPath, `{"model":"m"}`, "Authorization", "Bearer sesame")
	check(resp, 200, "")
}

// TestModelPageIsConfined: whatever a model answers cannot act as a page of the
// proxy's, unless the model is trusted with that.
func TestModelPageIsConfined(t *testing.T) {
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Models["trusted"] = &config.Model{Command: []string{"m"}, TrustPages: true}
	}), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "img-src 'self'")
		io.WriteString(w, "<html>")
	}, false)
	for path, want := range map[string]int{"/upstream/m/": 2, "/v1/audio/voices?model=m": 2, "/upstream/trusted/": 1} {
		resp, _ := f.do("GET", path, "")
		policies := resp.Header.Values("Content-Security-Policy")
		if len(policies) != want || strings.Contains(fmt.Sprint(policies), "allow-same-origin") || strings.Contains(fmt.Sprint(policies), "sandbox") != (want == 2) {
			t.Errorf("%s: %q", path, policies)
		}
	}
}

// TestModelPageInABrowser: the script of a model's page runs, but it can neither read
// a log nor unload a model.
func TestModelPageInABrowser(t *testing.T) {
	b := startBrowser(t)
	const html = `<!doctype html><script>
		const tell = async (url, init) => { try { return (await fetch(url, init)).status } catch { return "refused" } };
		Promise.all([tell("/logs?model=m"), tell("/unload?model=m", {method: "POST"})]).then((all) => { document.title = "done " + all });
	</script>`
	f := newFrontTest(t, oneModel(func(c *config.Config, m *config.Model) {
		c.Models["trusted"] = &config.Model{Command: []string{"m"}, TrustPages: true}
	}), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, html)
	}, false)
	for model, want := range map[string]string{"m": "done refused,refused", "trusted": "done 200,200"} {
		tab := b.open(f.server.URL+"/upstream/"+model+"/", 800, 600)
		tab.await(`document.title.startsWith("done")`)
		if got := tab.eval("document.title"); got != want {
			t.Errorf("%s: %s, not %s", model, got, want)
		}
	}
}

// TestForeignPageInABrowser: a page of another site has no effect by any means that a
// browser has, until its origin is listed. Then it can use an API, key and all.
func TestForeignPageInABrowser(t *testing.T) {
	b := startBrowser(t)
	const html = `<!doctype html><script>
		const proxy = location.hash.slice(1), results = {};
		const tell = (name, promise) => promise.then((v) => { results[name] = v }, () => { results[name] = "refused" });
		const socket = new Promise((opened, failed) => {
			const ws = new WebSocket(proxy.replace("http", "ws") + "/upstream/m/ws");
			ws.onopen = () => opened("open");
			ws.onerror = failed;
		});
		const image = new Promise((done) => { const i = new Image(); i.onload = i.onerror = () => done("done"); i.src = proxy + "/upstream/m/x.png" });
		const frame = new Promise((done) => { const f = document.createElement("iframe"); f.onload = () => done("done"); f.src = proxy + "/upstream/m/"; document.documentElement.append(f) });
		const chat = fetch(proxy + "/v1/chat/completions", {
			method: "POST", body: '{"model":"m"}', headers: {"Content-Type": "application/json", Authorization: "Bearer sesame"},
		}).then((r) => r.status);
		Promise.all([tell("socket", socket), tell("image", image), tell("frame", frame),
			tell("get", fetch(proxy + "/upstream/m/", {mode: "no-cors"}).then(() => "sent")),
			tell("chat", chat)]).then(() => { document.title = "done " + results.chat });
	</script>`
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, html)
	}))
	t.Cleanup(page.Close)
	foreign := strings.Replace(page.URL, "127.0.0.1", "localhost", 1) // Another site than the proxy's.
	for _, c := range []struct {
		origins []string
		want    string
	}{
		{nil, "done refused"},
		{[]string{foreign}, "done 200"},
	} {
		var served atomic.Int64
		f := newFrontTest(t, oneModel(func(cfg *config.Config, m *config.Model) { cfg.Origins = c.origins }), func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			echo(w, r)
		}, false)
		tab := b.open(foreign+"#"+f.server.URL, 800, 600)
		tab.await(`document.title.startsWith("done")`)
		if got := tab.eval("document.title"); got != c.want {
			t.Errorf("origins %q: %s, not %s", c.origins, got, c.want)
		}
		if c.origins == nil && served.Load() != 0 {
			t.Errorf("%d requests of the page reached the model", served.Load())
		}
	}
}
