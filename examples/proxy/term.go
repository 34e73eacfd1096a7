package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/kube"
	"example.com/scheduler/examples/internal/pods"
)

const (
	nodeHold = time.Minute      // how long a node must have less until that counts
	nodeWait = 10 * time.Second // how long a reload waits for what the nodes have
)

// term is the time in which a replica has the lease.
type term struct {
	*standalone
	replica *replica
	cluster *pods.Cluster
	ctx     context.Context
	cancel  context.CancelFunc
	once    sync.Once
	over    chan struct{} // closed when everything has ended
	reign   string        // of the lease
	held    chan struct{} // closed when the lease, lost for a while, is back; nil: it is not lost. The replica's.

	applying  sync.Mutex
	cfg       *config.Config // that has been applied, as it is in the file
	amounts   pods.Amounts   // likewise
	nodes     *pods.Nodes    // nil: the budget has nothing from nodes
	pools     map[string]*config.NodePools
	stopNodes context.CancelFunc
}

// begin takes over what there is, and begins to serve.
func (r *replica) begin(ctx context.Context) (t *term, err error) {
	t = &term{replica: r, cluster: pods.Open(r.client, r.election.Name, r.owner(ctx), r.log), over: make(chan struct{}), stopNodes: func() {}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.guard(ctx)
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	cfg, err := t.concrete(ctx)
	if err != nil {
		return nil, err
	}
	found, err := t.cluster.Found(ctx)
	if err != nil {
		return nil, err
	}
	h, err := newHost(cfg, r.log, podBackends(t.cluster))
	if err != nil {
		return nil, err
	}
	again := h.takeOver(ctx, t.cluster, found)
	t.cluster.Collect()
	t.standalone = h.serve(r.address, cfg.Preload)
	for _, model := range again {
		go h.loadAll(t.preload, []string{model}) // Each goes on beside the others, as before.
	}
	return t, nil
}

// guard has changes of the cluster end at the very moment at which the lease is lost,
// which is when ctx ends: the pods may be another proxy's in a moment.
func (t *term) guard(ctx context.Context) {
	t.reign = t.replica.election.Reign()
	context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), kube.ErrLeaseLost) {
			t.cluster.Freeze()
		}
	})
}

// concrete returns the configuration with what the nodes have, once that is known, and
// takes down that it is applied. It is nil if that has been so before.
func (t *term) concrete(ctx context.Context) (*config.Config, error) {
	cfg := t.replica.config()
	amounts, err := t.look(ctx, cfg)
	if err != nil || cfg == t.cfg && reflect.DeepEqual(amounts, t.amounts) {
		return nil, err
	}
	t.cfg, t.amounts = cfg, amounts
	return cfg.WithNodes(amounts), nil
}

// look returns what the nodes have for the budget of cfg, nil if that has nothing from
// nodes.
func (t *term) look(ctx context.Context, cfg *config.Config) (pods.Amounts, error) {
	var pools map[string]*config.NodePools
	if cfg.Budget != nil {
		pools = cfg.Budget.FromNodes
	}
	if t.nodes != nil && reflect.DeepEqual(pools, t.pools) {
		return t.nodes.Amounts(ctx)
	}
	var nodes *pods.Nodes
	watching, stop := context.WithCancel(t.ctx)
	var amounts pods.Amounts
	if len(pools) > 0 {
		var err error
		nodes = pods.WatchNodes(watching, t.replica.client, pools, nodeHold, t.replica.log, t.adjust)
		if amounts, err = nodes.Amounts(ctx); err != nil {
			stop()
			return nil, fmt.Errorf("nodes: %w", err)
		}
	}
	t.stopNodes()
	t.nodes, t.pools, t.stopNodes = nodes, pools, stop
	return amounts, nil
}

// apply makes the host have the present configuration.
func (t *term) apply() error {
	t.applying.Lock()
	defer t.applying.Unlock()
	ctx, cancel := context.WithTimeout(t.ctx, nodeWait)
	defer cancel()
	cfg, err := t.concrete(ctx)
	if cfg == nil || err != nil {
		return err
	}
	return t.standalone.reload(cfg)
}

// adjust applies what the nodes have now.
func (t *term) adjust() {
	if t.replica.present() != t {
		return // It will be applied when the term has begun.
	}
	if err := t.apply(); err != nil {
		t.replica.log.Error("change of nodes not applied", "err", err)
	}
}

// letGo ends the host's hold on its pods, which stay.
func (t *term) letGo() {
	t.cluster.Release()
	t.do(t.host.close)
}

// close ends what is left of the term.
func (t *term) close() {
	t.once.Do(func() {
		t.cancel()
		t.cluster.Close()
		close(t.over)
	})
}
