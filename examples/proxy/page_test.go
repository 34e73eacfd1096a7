package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/scheduler"
)

var screenshot = flag.String("screenshot", "", "write pictures of the status page into this folder")

// sizes are windows that the page has to fit into: phones, and what is larger.
var sizes = []int{320, 360, 600, 768, 1024, 1280}

func TestPageShowsSwaps(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha", "beta")
	tab := b.open(p.server.URL, 1280, 900)
	tab.awaitState("alpha", "stopped")

	tab.click(`button[aria-label="Load alpha"]`)
	tab.awaitState("alpha", "loading")
	tab.await(`document.querySelector("#swaps").innerText.includes("Loads \u2068alpha\u2069")`)
	p.ready("alpha")
	tab.awaitState("alpha", "ready")

	served := p.request(t, "alpha")
	tab.awaitState("alpha", "serving")
	tab.click(`button[aria-label="Load beta"]`)
	tab.await(`document.querySelector("#queue").innerText.includes("waits for \u2068alpha\u2069, which is busy")`)
	served()
	tab.awaitState("beta", "loading")
	tab.awaitState("alpha", "stopped")
	p.ready("beta")
	tab.awaitState("beta", "ready")
	tab.await(`document.querySelector("#queue").hidden`)
	tab.await(`document.querySelector("#announcer").textContent.includes("beta is ready")`)

	tab.click(`button[aria-label="Unload beta"]`)
	tab.awaitState("beta", "stopped")
	tab.await(`/alpha .*serving/.test(document.querySelector("#lanes canvas").getAttribute("aria-label"))`)
	for _, said := range b.complaints() {
		t.Error(said)
	}
}

func TestPageSaysWhatFails(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha")
	tab := b.open(p.server.URL, 1280, 900)
	tab.awaitState("alpha", "stopped")
	tab.click(`button[aria-label="Load alpha"]`)
	tab.awaitState("alpha", "loading")
	p.breaks("alpha")
	tab.await(`document.querySelector("#problem").checkVisibility() &&
		document.querySelector("#problem").innerText.includes("it is broken")`)
	tab.await(`document.querySelector("#models .error").innerText.includes("it is broken")`)
	tab.click("#problem button")
	tab.await(`!document.querySelector("#problem").checkVisibility()`)
}

// What is in flight is cut off by an unload, so that takes a second click.
func TestPageAsksBeforeItCutsOff(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha")
	p.ready("alpha")
	served := p.request(t, "alpha")
	defer served()
	tab := b.open(p.server.URL, 1280, 900)
	tab.awaitState("alpha", "serving")
	// Both clicks in one go, because the page withdraws the question after a while.
	asked := tab.eval(`(() => {
		document.querySelector('button[aria-label="Unload alpha"]').click();
		const second = document.querySelector('button[aria-label="Cut off 1? alpha"]');
		second?.click();
		return !!second;
	})()`)
	if asked != "true" {
		t.Error("the page does not ask")
	}
	tab.awaitState("alpha", "stopped")
}

// An update must leave the focus, and what has it, where it is.
func TestPageByKeyboard(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha", "beta")
	tab := b.open(p.server.URL, 1280, 900)
	tab.awaitState("beta", "stopped")
	focused := `document.activeElement.getAttribute("aria-label") || document.activeElement.textContent`
	var seen []string
	for range 20 {
		tab.press("Tab", 9)
		seen = append(seen, tab.eval(focused))
		if seen[len(seen)-1] == "Load beta" {
			break
		}
	}
	if got := seen[len(seen)-1]; got != "Load beta" {
		t.Fatalf("the keyboard reaches %q", seen)
	}
	tab.press("Enter", 13)
	tab.awaitState("beta", "loading")
	p.ready("beta")
	tab.awaitState("beta", "ready")
	if got := tab.eval(focused); got != "Load beta" {
		t.Errorf("the focus has moved to %q", got)
	}
	tab.press("Enter", 13) // It does nothing.
	tab.press("Tab", 9)
	tab.press("Enter", 13)
	tab.awaitState("beta", "stopped")
	if got := tab.eval(focused); got != "Unload beta" {
		t.Errorf("the focus has moved to %q", got)
	}
	if ring := tab.eval(`getComputedStyle(document.activeElement).outlineStyle`); ring != "solid" {
		t.Errorf("the focus is shown by an outline that is %s", ring)
	}
}

// Everything is much, so that takes a second click too, whatever is in flight.
func TestPageAsksBeforeItUnloadsAll(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha", "beta")
	p.ready("alpha")
	p.request(t, "alpha")()
	tab := b.open(p.server.URL, 1280, 900)
	tab.awaitState("alpha", "ready")
	tab.click("#unload-all")
	tab.await(`document.querySelector("#unload-all").textContent.includes("?")`)
	tab.await(`document.querySelector("#announcer").textContent.includes("again")`)
	if got := p.host.status().Models[0].State; got != scheduler.StateReady {
		t.Errorf("after one click alpha is %s", got)
	}
	tab.await(`document.querySelector("#unload-all").textContent === "Unload all"`) // The question is withdrawn.
	tab.eval(`document.querySelector("#unload-all").click(), document.querySelector("#unload-all").click()`)
	tab.awaitState("alpha", "stopped")
}

// A page that nobody sees has hung up on purpose: that is no fault, and nothing to be
// shown in red when it is looked at again.
func TestPagePausesWhileHidden(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha")
	tab := b.open(p.server.URL, 1280, 900)
	tab.await(`document.querySelector("#connection").innerText === "live"`)
	hide := func(hidden bool) {
		tab.eval(fmt.Sprintf(`Object.defineProperty(document, "hidden", {value: %v, configurable: true}),
			document.dispatchEvent(new Event("visibilitychange"))`, hidden))
	}
	hide(true)
	tab.await(`document.querySelector("#connection").innerText.startsWith("paused")`)
	if got := tab.eval(`document.querySelectorAll(".lost").length`); got != "0" {
		t.Errorf("%s elements look as if the connection were lost", got)
	}
	p.ready("alpha")
	p.request(t, "alpha")()
	hide(false)
	tab.await(`document.querySelector("#connection").innerText === "live"`)
	tab.awaitState("alpha", "ready")
	hide(true)
	p.server.CloseClientConnections()
	p.server.Close()
	hide(false) // What is lost is still said to be.
	tab.await(`document.querySelector("#connection").innerText.startsWith("connection lost")`)
}

// The timeline of a proxy that was started a moment ago is not mostly empty.
func TestPageTimelineGrows(t *testing.T) {
	b := startBrowser(t)
	for _, c := range []struct {
		age  time.Duration
		want string
	}{
		{10 * time.Second, "60"},
		{80 * time.Second, "120"},
		{time.Hour, "120"},
	} {
		begin := time.Now().Add(-c.age)
		s := newScene(begin, modelStatus{Model: "alpha"}).after(c.age)
		tab := b.open(s.stage(t), 1280, 900)
		tab.await(`document.querySelector("#models tbody")`)
		tab.await(fmt.Sprintf(`document.querySelector("#window").value === %q`, c.want))
	}
	s := newScene(time.Now().Add(-time.Second), modelStatus{Model: "alpha"})
	tab := b.open(s.stage(t), 1280, 900)
	tab.await(`document.querySelector("#window").value === "60"`)
	tab.eval(`(() => {
		const w = document.querySelector("#window");
		w.value = "300";
		w.dispatchEvent(new Event("change"));
	})()`)
	s.after(65*time.Second, s.is(0, scheduler.StateReady))
	tab.awaitState("alpha", "ready")
	if got := tab.eval(`document.querySelector("#window").value`); got != "300" {
		t.Errorf("what was chosen has become %s", got)
	}
}

// Every word of the scheduler's that the page shows is explained there.
func TestPageExplainsItsWords(t *testing.T) {
	b := startBrowser(t)
	tab := b.open(everything(time.Now()).stage(t), 360, 900)
	tab.await(`document.querySelector("#models tbody")`)
	tab.click("summary")
	for _, word := range []string{
		"loading", "ready", "serving", "closed", "stopping", "stopped", "cooling down", "swap", "overdue", "reserved",
		"abandoned", "evictions", "refused", "failed", "cancelled", "ignored reports", "draining", "paused", "memory",
	} {
		found := fmt.Sprintf(`[...document.querySelectorAll("#words dt")].find((e) => e.textContent === %q && e.checkVisibility())`, word)
		if got := tab.eval(found + "?.nextSibling.textContent.length > 20"); got != "true" {
			t.Errorf("%s is not explained", word)
		}
	}
	if got := tab.eval(`[...document.querySelectorAll("#legend li")].every((e) => e.title.length > 20)`); got != "true" {
		t.Error("the legend explains nothing")
	}
	if over := tab.eval(overflowing); over != "" {
		t.Errorf("too wide are\n%s", over)
	}
}

func TestPageReconnects(t *testing.T) {
	b := startBrowser(t)
	p := newPlay(t, "alpha")
	tab := b.open(p.server.URL, 1280, 900)
	tab.await(`document.querySelector("#connection").innerText === "live"`)
	p.server.CloseClientConnections()
	address := p.server.Listener.Addr().String()
	p.server.Close()
	tab.await(`document.querySelector("#connection").innerText.startsWith("connection lost")`)
	p.ready("alpha")
	p.request(t, "alpha")()
	p.serveAt(t, address)
	tab.await(`document.querySelector("#connection").innerText === "live"`)
	tab.awaitState("alpha", "ready")
}

// The page must fit and be legible, whatever is shown on it.
func TestPageLayout(t *testing.T) {
	b := startBrowser(t)
	for _, scheme := range []string{"light", "dark"} {
		tab := b.open(everything(time.Now(), hostileNames...).stage(t), 1280, 900)
		tab.media("prefers-color-scheme="+scheme, "prefers-reduced-motion=reduce")
		tab.await(`document.querySelector("#models tbody")`)
		for _, width := range sizes {
			tab.resize(width, 800)
			tab.await(fmt.Sprintf("innerWidth === %d", width))
			if over := tab.eval(overflowing); over != "" {
				t.Errorf("%s, %d wide: too wide are\n%s", scheme, width, over)
			}
			if faint := tab.eval(illegible); faint != "" {
				t.Errorf("%s, %d wide: too faint are\n%s", scheme, width, faint)
			}
		}
	}
	if got := b.complaints(); len(got) > 0 {
		t.Errorf("the page complains: %s", got)
	}
}

// hostileNames are names that want more than to be shown.
var hostileNames = []string{
	`<img src=x onerror="document.body.dataset.broken=1">`,
	strings.Repeat("a-very-long-name-without-a-space", 6),
	"\u202Eright-to-left\u202D & </script><script>alert(1)</script>",
	"../../etc/passwd?model=x&follow=0#\"'",
	"名前",
}

// overflowing lists the elements that do not fit into the window.
const overflowing = `(() => {
	const wide = [...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
		!e.closest(".unseen, .skip, thead") && e.getBoundingClientRect().right > innerWidth + .5);
	if (document.documentElement.scrollWidth > innerWidth) wide.push(document.documentElement);
	return wide.map((e) => e.tagName + "." + e.className + " " + e.innerText.slice(0, 60)).join("\n");
})()`

// illegible lists the texts whose contrast is under 4.5, as WCAG measures it. What
// cannot be used may be faint.
const illegible = `(() => {
	const rgb = (text) => text.match(/[\d.]+/g).map(Number);
	const light = (c) => {
		const [r, g, b] = c.map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
		return .2126 * r + .7152 * g + .0722 * b;
	};
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] === 1) return c.slice(0, 3);
		}
	};
	return [...document.querySelectorAll("body *")].filter((e) => {
		const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
		if (!own || !e.checkVisibility() || e.closest("script, .unseen, .skip, [aria-disabled=true]")) return false;
		const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
		return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5;
	}).map((e) => e.tagName + "." + e.className + " " + e.innerText.slice(0, 60)).join("\n");
})()`

func TestPageNamesAreOnlyShown(t *testing.T) {
	b := startBrowser(t)
	tab := b.open(everything(time.Now(), hostileNames...).stage(t), 1280, 900)
	tab.await(`document.querySelectorAll("#models tbody").length === 5`)
	var names []string
	json.Unmarshal([]byte(tab.eval(`JSON.stringify([...document.querySelectorAll("#models .name")].map((e) => e.textContent))`)), &names)
	if fmt.Sprint(names) != fmt.Sprint(hostileNames) {
		t.Errorf("shown are %q", names)
	}
	if got := tab.eval(`[document.images.length, document.scripts.length, document.body.dataset.broken].join()`); got != "0,1," {
		t.Errorf("images, scripts and what they did: %s", got)
	}
	for i, name := range hostileNames {
		got := tab.eval(fmt.Sprintf(`new URL(document.querySelectorAll("#models a")[%d].href).searchParams.get("model")`, i))
		if got != name {
			t.Errorf("the log of %q is that of %q", name, got)
		}
	}
}

func TestPageForAScreenReader(t *testing.T) {
	b := startBrowser(t)
	tab := b.open(everything(time.Now()).stage(t), 1280, 900)
	tab.await(`document.querySelector("#models tbody")`)
	// The longest window, which the scene does not begin to leave during the test.
	tab.eval(`(() => {
		const w = document.querySelector("#window");
		w.value = "900";
		w.dispatchEvent(new Event("change"));
	})()`)
	for _, width := range []int{1280, 360} { // As a table, and as cards.
		tab.resize(width, 800)
		tab.await(fmt.Sprintf("innerWidth === %d", width))
		if wrong := lastingly(func() string { return outlineFaults(tab.outline()) }); wrong != "" { // The tree lags behind the page.
			t.Errorf("%d wide: %s", width, wrong)
		}
	}
}

// outlineFaults says what is wrong with the outline of a page that shows everything.
func outlineFaults(roles map[string][]string) string {
	var wrong []string
	for role, want := range map[string]int{
		"banner": 1, "main": 1, "region": 6, "table": 2, "button": 11, "link": 6, "combobox": 1, "rowheader": 10, "heading": 7,
	} {
		if got := roles[role]; len(got) != want {
			wrong = append(wrong, fmt.Sprintf("%d of %s, want %d: %q", len(got), role, want, got))
		}
		if slices.Contains(roles[role], "") && role != "banner" && role != "main" {
			wrong = append(wrong, fmt.Sprintf("a %s has no name", role))
		}
	}
	if got := fmt.Sprint(roles["image"], roles["img"]); !strings.Contains(got, "whisper-large is stopped; of the last 900 seconds: loading 10 s") {
		wrong = append(wrong, "the timeline says "+got)
	}
	return strings.Join(wrong, "\n")
}

// outline returns the names of what the accessibility tree of the page has, by
// role.
func (tab *tab) outline() map[string][]string {
	type value struct{ Value any }
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}
	tab.do("Accessibility.getFullAXTree", nil, &tree)
	roles := make(map[string][]string)
	for _, n := range tree.Nodes {
		if role := fmt.Sprint(n.Role.Value); !n.Ignored {
			name, _ := n.Name.Value.(string)
			roles[role] = append(roles[role], name)
		}
	}
	return roles
}

// A page that is left open must neither grow nor lose the thread.
func TestPageThroughManySwaps(t *testing.T) {
	b := startBrowser(t)
	s := newScene(time.Now().Add(-time.Hour), modelStatus{Model: "alpha"}, modelStatus{Model: "beta"})
	tab := b.open(s.stage(t), 1280, 900)
	nodes := `document.querySelectorAll("*").length`
	swap := func(n int) {
		from, to := n%2, (n+1)%2
		s.after(time.Second, s.is(from, scheduler.StateStopping)).
			after(time.Second, s.is(from, scheduler.StateStopped), s.is(to, scheduler.StateStarting)).
			after(3*time.Second, s.is(to, scheduler.StateReady), s.serves(to, 2)).
			after(4*time.Second, s.serves(to, 0), func() {
				s.status.Scheduler.Counters.Swaps++
			})
	}
	swaps := `[...document.querySelectorAll("#counters dt")].find((e) => e.textContent === "Swaps").nextSibling.textContent`
	swap(0)
	swap(1)
	tab.await(swaps + ` === "2"`)
	before := tab.eval(nodes)
	for n := 2; n < 200; n++ {
		swap(n)
		if n%20 == 0 {
			tab.await(fmt.Sprintf("%s === %q", swaps, fmt.Sprint(n+1)))
		}
	}
	tab.await(swaps + ` === "200"`)
	tab.awaitState("alpha", "ready")
	tab.awaitState("beta", "stopped")
	if after := tab.eval(nodes); after != before {
		t.Errorf("after 2 swaps there were %s elements, after 200 there are %s", before, after)
	}
}

// click clicks what a selector finds.
func (tab *tab) click(selector string) {
	tab.t.Helper()
	tab.await(fmt.Sprintf("document.querySelector(%q)", selector))
	tab.eval(fmt.Sprintf("document.querySelector(%q).click()", selector))
}

// awaitState waits until the page says that a model is in a state.
func (tab *tab) awaitState(model, state string) {
	tab.t.Helper()
	tab.await(fmt.Sprintf(`[...document.querySelectorAll("#models tbody")].some((e) =>
		e.querySelector(".name").textContent === %q && e.querySelector(".state b").textContent === %q)`, model, state))
}

func TestPageAlone(t *testing.T) {
	w := httptest.NewRecorder()
	servePage(w, httptest.NewRequest("GET", "/", nil))
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	text := w.Body.String()
	if strings.Count(text, "<script>") != 1 || strings.Count(text, "<style>") != 1 {
		t.Error("the policy allows one script and one style")
	}
	for _, elsewhere := range []string{"https://", "//cdn", "src=", "@import", "innerHTML", "eval("} {
		if strings.Contains(text, elsewhere) {
			t.Errorf("the page has %q in it", elsewhere)
		}
	}
}

func TestPagePictures(t *testing.T) {
	if *screenshot == "" {
		t.Skip("-screenshot FOLDER makes the pictures of the README")
	}
	b := startBrowser(t)
	for _, width := range []int{1280, 360} {
		for _, scheme := range []string{"light", "dark"} {
			tab := b.open(everything(time.Now()).stage(t), width, 900)
			tab.media("prefers-color-scheme=" + scheme)
			tab.await(`document.querySelector("#models tbody")`)
			tab.eval(`new Promise((drawn) => setTimeout(() => requestAnimationFrame(drawn), 300))`)
			name := map[int]string{1280: "desktop", 360: "phone"}[width] + "-" + scheme + ".png"
			if err := os.WriteFile(filepath.Join(*screenshot, name), tab.picture(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}
