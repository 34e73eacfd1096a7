package kubetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// follow keeps c.pods as the API server has them, in the order of its changes, until
// the test ends. It calls synced after each list.
func (c *Cluster) follow(synced func()) {
	for c.ctx.Err() == nil {
		version, ok := c.list()
		if !ok {
			continue
		}
		synced()
		for c.watch(&version) {
		}
	}
}

// list takes over all pods, and returns the version of the list.
func (c *Cluster) list() (version string, ok bool) {
	code, answer := c.call(c.ctx, http.MethodGet, c.podPath(""), nil)
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []*podObject
	}
	if code != http.StatusOK || json.Unmarshal(answer, &list) != nil {
		select {
		case <-time.After(tick): // Being deleted, perhaps.
		case <-c.ctx.Done():
		}
		return "", false
	}
	there := make(map[string]bool)
	for _, o := range list.Items {
		there[o.Metadata.UID] = true
		c.put(o)
	}
	for _, uid := range c.known() {
		if !there[uid] {
			c.drop(uid)
		}
	}
	return list.Metadata.ResourceVersion, true
}

// known returns the UIDs of the pods that were there when last seen.
func (c *Cluster) known() (uids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid := range c.pods {
		uids = append(uids, uid)
	}
	return uids
}

// watch takes over changes from version on, until the connection ends. It reports
// whether it is worth trying again from the version that it has come to.
func (c *Cluster) watch(version *string) bool {
	path := c.podPath("") + "?watch=1&resourceVersion=" + *version
	resp, err := c.server.open(c.ctx, http.MethodGet, path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false
	}
	events := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var event struct {
			Type   string
			Object podObject
		}
		if err := events.Decode(&event); err != nil {
			return c.ctx.Err() == nil
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			c.put(&event.Object)
		case "DELETED":
			c.drop(event.Object.Metadata.UID)
		default:
			return false
		}
		*version = event.Object.Metadata.ResourceVersion
	}
}

// open sends a request as the administrator, and returns the answer to be read.
func (s *Server) open(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.Admin)
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return resp, nil
}

// put takes over a pod that is new or has changed.
func (c *Cluster) put(o *podObject) {
	defer c.wake()
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[o.Metadata.UID]
	added := p == nil
	if added {
		c.books.created++
		p = &pod{name: o.Metadata.Name, uid: o.Metadata.UID, number: c.books.created}
		c.pods[p.uid] = p
	}
	p.object = o
	if o.terminating() {
		c.noteEnd(p)
	}
	if added {
		c.noteStart(p)
	}
}

// drop forgets a pod that is gone, and ends what runs of it.
func (c *Cluster) drop(uid string) {
	defer c.wake()
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[uid]
	if p == nil {
		return
	}
	c.noteEnd(p)
	delete(c.pods, uid)
	if p.run != nil {
		p.run.kill()
	}
}
