package pods

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/url"
	"time"
)

// print copies what the pod prints until its container has ended. After a cut it goes on
// where it was.
func (p *Pod) print(ctx context.Context) {
	defer close(p.printed)
	query := url.Values{"container": {p.container}, "follow": {"true"}, "timestamps": {"true"}}
	for last := (time.Time{}); ; {
		if !last.IsZero() {
			query.Set("sinceTime", last.UTC().Format(time.RFC3339)) // The API knows whole seconds only.
		}
		stream, err := p.cluster.client.Stream(ctx, p.cluster.path(p.name)+"/log?"+query.Encode())
		if err == nil {
			last, err = copyLog(p.out, stream, last)
			stream.Close()
		}
		if p.hasPrinted(ctx) {
			return
		}
		p.cluster.log.Debug("log of a pod was cut", "pod", p.name, "err", err)
	}
}

// hasPrinted reports whether the container has nothing more to print. That it has ended
// may come to be known a moment after its log has ended.
func (p *Pod) hasPrinted(ctx context.Context) bool {
	for late := time.After(time.Second); ; {
		v, changed := p.known()
		c := statusOf(v.latest.Status.ContainerStatuses, p.container)
		if v.over || c == nil || c.State.Running == nil {
			return true
		}
		select {
		case <-changed:
		case <-late:
			return false
		case <-ctx.Done():
			return true
		}
	}
}

// copyLog copies the lines of a log, each of which begins with its time, without their
// times. It leaves out those that are not later than since, and returns the time of the
// last one.
func copyLog(to io.Writer, from io.Reader, since time.Time) (last time.Time, err error) {
	last = since
	in := bufio.NewReaderSize(from, 32<<10)
	for begun, known := false, false; ; {
		line, more, err := in.ReadLine()
		if err != nil {
			return last, err
		}
		if !begun {
			if stamp, rest, cut := bytes.Cut(line, []byte(" ")); cut {
				if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil {
					line, last, known = rest, at, !at.After(since)
				}
			}
		}
		if !known {
			to.Write(line)
			if !more {
				io.WriteString(to, "\n")
			}
		}
		begun = more
	}
}
