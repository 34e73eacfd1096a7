package kubetest

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// kubelet serves the logs of a node's containers, to the API server.
type kubelet struct {
	cluster *Cluster
	node    *node
	port    int
	server  *http.Server

	once sync.Once
	lost chan struct{} // closed when the machine is
}

// newKubelet starts a kubelet, which ends with the test.
func newKubelet(c *Cluster, n *node) *kubelet {
	c.t.Helper()
	cert, err := tls.LoadX509KeyPair(c.server.file("apiserver.crt"), c.server.file("apiserver.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	k := &kubelet{cluster: c, node: n, port: l.Addr().(*net.TCPAddr).Port, lost: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.logs)
	k.server = &http.Server{
		Handler:   mux,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	c.work.Go(func() { k.server.ServeTLS(l, "", "") })
	c.work.Go(func() {
		<-c.ctx.Done()
		k.server.Close()
	})
	return k
}

// lose lets requests hang from now on.
func (k *kubelet) lose() { k.once.Do(func() { close(k.lost) }) }

// logs implements the endpoint behind kubectl logs.
func (k *kubelet) logs(w http.ResponseWriter, r *http.Request) {
	select {
	case <-k.lost:
		k.hang(r)
		return
	default:
	}
	opts, err := parseLogOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := k.cluster.outputOf(k.node.Name, r.PathValue("pod"), r.PathValue("container"), opts.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	k.print(w, r, out, opts)
}

// hang waits until the caller or the test has had enough.
func (k *kubelet) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-k.cluster.ctx.Done():
	}
}

// outputOf returns what a container of a pod has printed. It fails, in the words of a
// kubelet, if the container has not run.
func (c *Cluster) outputOf(node, name, container string, previous bool) (*output, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		if p.name != name || p.run == nil || p.node() != node {
			continue
		}
		out, waiting := p.run.outputOf(previous)
		switch {
		case waiting != "":
			return nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", container, name, waiting)
		case out == nil:
			return nil, fmt.Errorf("previous terminated container %q in pod %q not found", container, name)
		}
		return out, nil
	}
	return nil, fmt.Errorf("container %q in pod %q is waiting to start: ContainerCreating", container, name)
}

// logOptions say which part of the output is asked for.
type logOptions struct {
	follow, timestamps, previous bool
	tail                         int // -1: all
	since                        time.Time
	limit                        int // bytes; -1: all
}

// parseLogOptions reads the query of a request.
func parseLogOptions(q url.Values) (o logOptions, err error) {
	o.tail, o.limit = -1, -1
	flag := func(name string) bool { b, _ := strconv.ParseBool(q.Get(name)); return b }
	o.follow, o.timestamps, o.previous = flag("follow"), flag("timestamps"), flag("previous")
	number := func(name string, to *int) {
		if text := q.Get(name); text != "" && err == nil {
			*to, err = strconv.Atoi(text)
		}
	}
	number("tailLines", &o.tail)
	number("limitBytes", &o.limit)
	if text := q.Get("sinceTime"); text != "" && err == nil {
		o.since, err = time.Parse(time.RFC3339, text)
	}
	seconds := -1
	if number("sinceSeconds", &seconds); seconds >= 0 {
		o.since = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	return o, err
}

// print writes output, and goes on if it is to be followed.
func (k *kubelet) print(w http.ResponseWriter, r *http.Request, out *output, o logOptions) {
	lines, next, more := out.from(0)
	if o.tail >= 0 {
		lines = lines[max(0, len(lines)-o.tail):]
	}
	for {
		for _, l := range lines {
			if !o.write(w, l) {
				return
			}
		}
		if !o.follow || more == nil {
			return
		}
		http.NewResponseController(w).Flush()
		select {
		case <-more:
			lines, next, more = out.from(next)
		case <-k.lost:
			k.hang(r)
			return
		case <-r.Context().Done():
			return
		case <-k.cluster.ctx.Done():
			return
		}
	}
}

// write writes a line, if it is asked for. It reports false if that was the last.
func (o *logOptions) write(w io.Writer, l line) bool {
	if l.at.Before(o.since) {
		return true
	}
	text := l.text + "\n"
	if o.timestamps {
		text = l.at.UTC().Format(time.RFC3339Nano) + " " + text
	}
	if o.limit >= 0 {
		text = text[:min(o.limit, len(text))]
		o.limit -= len(text)
	}
	_, err := io.WriteString(w, text)
	return err == nil && o.limit != 0
}
