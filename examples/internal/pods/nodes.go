package pods

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/kube"
)

// Nodes is what the nodes of a cluster have to offer. [WatchNodes] makes one.
//
// More is believed at once. Less has to last for some time, since a kubelet or a device
// plugin that starts anew takes everything away for a moment, and the models that are
// there would have to go.
type Nodes struct {
	ctx     context.Context
	pools   map[string]*config.NodePools
	hold    time.Duration // how long less has to last
	log     *slog.Logger
	changed func()
	synced  chan struct{} // closed once all nodes are known

	mu      sync.Mutex
	listed  bool // synced is closed
	nodes   map[string]kube.Node
	amounts Amounts
	less    map[[2]string]time.Time // by pools and place: since when there is less than amounts says
	timer   *time.Timer             // for the first of less; nil: there is none
}

// Amounts is how much there is, by the names of [config.Budget.FromNodes] and by place.
type Amounts map[string]map[string]int64

// WatchNodes begins to watch the nodes of a cluster, until ctx ends. Changed is called
// when Amounts, after its first answer, has another one. Less is believed after hold.
func WatchNodes(ctx context.Context, client *kube.Client, pools map[string]*config.NodePools, hold time.Duration, log *slog.Logger, changed func()) *Nodes {
	n := newNodes(ctx, pools, hold, log, changed)
	go kube.Watch(ctx, client, "/api/v1/nodes", nil, kube.Handler[kube.Node]{Put: n.put, Delete: n.drop, Synced: n.sync})
	return n
}

func newNodes(ctx context.Context, pools map[string]*config.NodePools, hold time.Duration, log *slog.Logger, changed func()) *Nodes {
	return &Nodes{
		ctx:     ctx,
		pools:   pools,
		hold:    hold,
		log:     log,
		changed: changed,
		synced:  make(chan struct{}),
		nodes:   make(map[string]kube.Node),
		amounts: make(Amounts),
		less:    make(map[[2]string]time.Time),
	}
}

// put takes down a node, which may be a new one.
func (n *Nodes) put(node kube.Node) { n.update(func() { n.nodes[node.Metadata.Name] = node }) }

// drop takes down that a node is gone.
func (n *Nodes) drop(node kube.Node) { n.update(func() { delete(n.nodes, node.Metadata.Name) }) }

// sync is called when all nodes are known.
func (n *Nodes) sync() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.listed {
		n.listed = true
		n.look(time.Now())
		close(n.synced)
	}
}

// Amounts returns how much there is, once that is known or ctx ends. It belongs to the
// caller.
func (n *Nodes) Amounts(ctx context.Context) (Amounts, error) {
	select {
	case <-n.synced:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.amounts.clone(), nil
}

func (a Amounts) clone() Amounts {
	c := make(Amounts, len(a))
	for entry, places := range a {
		c[entry] = maps.Clone(places)
	}
	return c
}

// update changes what is known of the nodes, and draws the consequences.
func (n *Nodes) update(how func()) {
	n.mu.Lock()
	how()
	changed := false
	if n.listed {
		before := n.amounts.clone()
		n.look(time.Now())
		changed = !reflect.DeepEqual(before, n.amounts)
	}
	n.mu.Unlock()
	if changed && n.ctx.Err() == nil {
		n.changed()
	}
}

// look brings amounts up to date. The caller holds n.mu.
func (n *Nodes) look(now time.Time) {
	there := n.sum()
	for entry := range n.pools {
		if n.amounts[entry] == nil {
			n.amounts[entry] = make(map[string]int64)
		}
		for place, amount := range there[entry] {
			if amount >= n.amounts[entry][place] {
				n.amounts[entry][place] = amount
				delete(n.less, [2]string{entry, place})
			}
		}
		for place, amount := range n.amounts[entry] {
			if there[entry][place] < amount {
				n.lower(entry, place, there[entry][place], now)
			}
		}
	}
	n.wait(now)
}

// lower takes down that there is less at a place than there was.
func (n *Nodes) lower(entry, place string, amount int64, now time.Time) {
	key := [2]string{entry, place}
	since, known := n.less[key]
	switch {
	case !known:
		n.less[key] = now
	case now.Sub(since) < n.hold:
	case amount == 0:
		delete(n.amounts[entry], place)
		delete(n.less, key)
	default:
		n.amounts[entry][place] = amount
		delete(n.less, key)
	}
}

// wait has somebody look again when the first of what is less has lasted.
func (n *Nodes) wait(now time.Time) {
	if n.timer != nil {
		n.timer.Stop()
	}
	if len(n.less) == 0 || n.ctx.Err() != nil {
		return
	}
	first := n.hold
	for _, since := range n.less {
		first = min(first, since.Add(n.hold).Sub(now))
	}
	n.timer = time.AfterFunc(first, func() { n.update(func() {}) })
}

// sum returns what the nodes have that take pods now.
func (n *Nodes) sum() Amounts {
	all := make(Amounts)
	for entry, pools := range n.pools {
		all[entry] = make(map[string]int64)
		for name, node := range n.nodes {
			place, ok := pools.Place(name, node.Metadata.Labels)
			text, has := node.Status.Allocatable[pools.Resource]
			if !ok || !has || node.Spec.Unschedulable || !isTrue(node.Status.Conditions, "Ready") {
				continue
			}
			amount, err := config.ParseQuantity(text)
			if err != nil {
				n.log.Warn("node with an unreadable amount", "node", name, "resource", pools.Resource, "err", err)
				continue
			}
			if amount > 0 {
				all[entry][place] += amount
			}
		}
	}
	return all
}
