package pods

import (
	"context"
	"errors"
	"sync"
)

// errFrozen is why a change waits.
var errFrozen = errors.New("changes of the cluster wait until this proxy has the lease again")

// permit says whether the cluster may be changed. The zero value is closed.
type permit struct {
	mu     sync.Mutex
	open   context.Context // ends when the permit is closed; nil: it is closed
	close  context.CancelFunc
	opened chan struct{} // closed when it is opened; nil: nobody has waited
}

// grant opens the permit.
func (p *permit) grant() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		return
	}
	p.open, p.close = context.WithCancel(context.Background())
	if p.opened != nil {
		close(p.opened)
		p.opened = nil
	}
}

// revoke closes the permit. Every change that is under way ends.
func (p *permit) revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		p.close()
		p.open = nil
	}
}

// isOpen reports whether changes are allowed.
func (p *permit) isOpen() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open != nil
}

// do carries out a change as soon as it is allowed, and until ctx ends. It is begun anew
// if the permit is closed in its middle, so it has to bear that.
func (p *permit) do(ctx context.Context, change func(context.Context) error) error {
	for {
		p.mu.Lock()
		open, opened := p.open, p.opened
		if open == nil && opened == nil {
			opened = make(chan struct{})
			p.opened = opened
		}
		p.mu.Unlock()
		if open == nil {
			select {
			case <-opened:
				continue
			case <-ctx.Done():
				return errors.Join(context.Cause(ctx), errFrozen)
			}
		}
		within, cancel := context.WithCancelCause(ctx)
		stop := context.AfterFunc(open, func() { cancel(errFrozen) })
		err := change(within)
		stop()
		cancel(nil)
		if err == nil || open.Err() == nil || ctx.Err() != nil {
			return err
		}
	}
}
