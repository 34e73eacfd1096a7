package pods

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// live follows the pod until it is gone, or released.
func (p *Pod) live() {
	defer p.cluster.forget(p)
	defer close(p.gone)
	logs, done := context.WithCancel(p.cluster.ctx)
	defer func() { time.AfterFunc(logWait, done) }()
	for {
		v, changed := p.known()
		var again <-chan time.Time
		if v.latest != nil {
			again = p.look(logs, v)
		}
		if v.over {
			p.leave("it was deleted")
			return
		}
		select {
		case <-changed:
		case <-again:
		case <-p.cluster.ctx.Done():
			if p.Err() == nil {
				p.end = context.Cause(p.cluster.ctx)
				close(p.left)
			}
			return
		}
	}
}

// look draws the consequences of what is known of the pod. Again is when to look again
// if nothing changes before that; nil: never.
func (p *Pod) look(logs context.Context, known view) (again <-chan time.Time) {
	v := judge(known.latest, p.container)
	if v.begun && p.printed == nil {
		p.printed = make(chan struct{})
		p.cluster.ending.Go(func() { p.print(logs) })
	}
	switch {
	case known.asked || p.Err() != nil: // It is known to end.
	case v.ended != "":
		p.giveUp(v.ended)
	case !v.ready && known.address != nil:
		return p.doubt(v)
	default:
		p.doubted = time.Time{}
	}
	return nil
}

// doubt decides about a pod that was ready and is so no more. Its own probe may have
// failed because it is busy, so it is given up only if it does not answer here either,
// for a while: as when its node is lost.
func (p *Pod) doubt(v verdict) (again <-chan time.Time) {
	ctx, cancel := context.WithTimeout(p.cluster.ctx, p.cluster.Lost/6)
	err := p.spec.Answers(ctx)
	cancel()
	switch {
	case err == nil || p.doubted.IsZero():
		p.doubted = time.Now()
	case time.Since(p.doubted) > p.cluster.Lost:
		p.giveUp(fmt.Sprintf("it is ready no more (%s), and does not answer: %v", v.waiting, err))
		return nil
	}
	return time.After(p.cluster.Lost / 15)
}

// giveUp makes the pod leave by itself, and deletes it.
func (p *Pod) giveUp(reason string) {
	p.leave(reason)
	p.cluster.ending.Go(func() {
		err := p.remove(p.cluster.ctx, int64(stopWait/time.Second))
		if err == errGone {
			p.see(nil, true)
		} else if err != nil && p.cluster.ctx.Err() == nil {
			p.cluster.log.Error("pod not deleted", "pod", p.name, "err", err)
		}
	})
}

// leave says that the pod can serve no more, and why: unless it was asked to stop. What it
// has printed is there by then.
func (p *Pod) leave(reason string) {
	if p.Err() != nil {
		return
	}
	v, _ := p.known()
	if v.asked {
		reason = "stopped" // Nobody waits for its last words.
	} else if p.printed != nil {
		select {
		case <-p.printed:
		case <-time.After(logWait):
		case <-p.cluster.ctx.Done():
		}
	}
	p.end = errors.New("pod " + p.name + ": " + reason)
	close(p.left)
}
