package main

import (
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"

	"example.com/scheduler"
)

// The measures of a picture.
const (
	svgLeft    = 150 // where the time begins
	svgWidth   = svgLeft + columns + 30
	svgTop     = 126 // where the lanes begin
	laneWaits  = 30  // height of the waiting requests
	laneServes = 26  // height of the bar below them
	laneHeight = laneWaits + laneServes + 42
	svgMost    = 100 // lanes
)

// svgStyle has the colours, for light and dark.
const svgStyle = `
svg{--paper:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--wait:#8250df;--load:#e3a008;--serve:#0969da;--idle:#c8e1ff;--shut:#cf222e}
@media (prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#f0f6fc;--soft:#a3abb4;--line:#3d444d;--wait:#b083f0;--load:#d29922;--serve:#4493f8;--idle:#1c3a5e;--shut:#ff7b72}}
text{font:13px system-ui,sans-serif;fill:var(--ink)}
.title{font-size:18px;font-weight:600}.soft{fill:var(--soft)}.small{font-size:11px;fill:var(--soft)}.end{text-anchor:end}.mid{text-anchor:middle}
.paper{fill:var(--paper)}.blank{fill:none;stroke:var(--line)}.line{stroke:var(--line);stroke-width:1}.base{stroke:var(--soft);stroke-width:1}
.wait{fill:var(--wait)}.load{fill:var(--load)}.serve{fill:var(--serve)}.idle{fill:var(--idle)}
.shut{fill:url(#hatch);stroke:var(--shut);stroke-width:1.5}.stripe{stroke:var(--shut);stroke-width:2.5}
`

// drawing is a picture that is being drawn.
type drawing struct {
	strings.Builder
	t *timeline
}

// draw draws a timeline.
func (t *timeline) draw(title, subtitle string) string {
	d := &drawing{t: t}
	height := svgTop + laneHeight*len(t.lanes) + 44
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		svgWidth, height, svgWidth, height, html.EscapeString(title))
	d.printf("<title>%s</title><style>%s</style>", html.EscapeString(title), svgStyle)
	d.printf(`<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="stripe" d="M0 0V7"/></pattern></defs>`)
	d.printf(`<rect class="paper" width="%d" height="%d"/>`, svgWidth, height)
	d.text(16, 30, "title", title)
	d.text(16, 52, "soft", subtitle)
	d.legend(76)
	d.axis(svgTop+laneHeight*len(t.lanes), len(t.lanes))
	for i, l := range t.lanes {
		d.lane(l, svgTop+i*laneHeight)
	}
	d.WriteString("</svg>\n")
	return d.String()
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

// text writes a text.
func (d *drawing) text(x, y int, class, text string) {
	d.printf(`<text x="%d" y="%d" class="%s">%s</text>`, x, y, class, html.EscapeString(text))
}

// legend explains the colours.
func (d *drawing) legend(y int) {
	for i, entry := range []struct{ class, text string }{
		{"wait", "requests that wait"},
		{"load", "the model is being loaded"},
		{"serve", "it serves: the higher, the more at a time"},
		{"idle", "it is loaded, with places free"},
		{"shut", "it is closed: newcomers wait"},
		{"blank", "it is not loaded"},
	} {
		x, y := 16+i%3*280, y+i/3*22
		d.printf(`<rect class="%s" x="%d" y="%d" width="14" height="12"/>`, entry.class, x, y-10)
		d.text(x+22, y, "", entry.text)
	}
}

// x returns where a moment is.
func (d *drawing) x(at time.Duration) float64 {
	at = min(max(at, d.t.from), d.t.to)
	return svgLeft + columns*float64(at-d.t.from)/float64(d.t.to-d.t.from)
}

// short writes a coordinate.
func short(v float64) string { return strconv.FormatFloat(v, 'f', -1, 32) }

// round rounds a coordinate to a tenth.
func round(v float64) string { return short(float64(int(v*10+0.5)) / 10) }

// axisSteps are the distances that the ticks of an axis may have.
var axisSteps = []time.Duration{
	time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// axis draws the axis of time, and its lines behind the lanes.
func (d *drawing) axis(y, lanes int) {
	span := d.t.to - d.t.from
	step := time.Duration(0)
	for _, s := range axisSteps {
		if step = s; span/s <= 10 {
			break
		}
	}
	for span/step > 10 {
		step *= 2
	}
	for at := (d.t.from + step - 1) / step * step; at <= d.t.to; at += step {
		x := round(d.x(at))
		d.printf(`<path class="line" d="M%s %dV%d"/>`, x, svgTop-8, y)
		d.printf(`<text x="%s" y="%d" class="mid soft">%s</text>`, x, y+18, shortDuration(at))
	}
	d.printf(`<path class="base" d="M%d %dH%d"/>`, svgLeft, y, svgLeft+columns)
	d.printf(`<text x="%d" y="%d" class="end soft">time</text>`, svgLeft-12, y+18)
}

// lane draws one model, below y.
func (d *drawing) lane(l *lane, y int) {
	base := y + laneWaits         // of the waiting requests
	foot := base + 3 + laneServes // of the bar
	waiting, serving := d.means(l)
	most := max(1, highest(waiting))
	places := max(float64(l.process.places), highest(serving))

	d.printf(`<text x="%d" y="%d" class="end">%s</text>`, svgLeft-12, base+8, html.EscapeString(shorten(l.process.name, 18)))
	d.printf(`<text x="%d" y="%d" class="small end">%s</text>`, svgLeft-12, base-8, fmt.Sprintf("up to %s wait", thousands(int(l.most()))))
	d.printf(`<text x="%d" y="%d" class="small end">%d places</text>`, svgLeft-12, foot-2, l.process.places)
	d.area("wait", waiting, float64(base), laneWaits/most)
	d.bars("idle", l, base+3, func(m *moment) bool { return m.state == scheduler.StateReady })
	d.area("serve", serving, float64(foot), laneServes/places)
	d.bars("load", l, base+3, func(m *moment) bool { return m.state == scheduler.StateStarting })
	d.bars("shut", l, base+3, func(m *moment) bool { return m.closed && m.state == scheduler.StateReady })
	d.printf(`<path class="base" d="M%d %dH%d"/>`, svgLeft, foot, svgLeft+columns)
	d.text(svgLeft, foot+17, "soft", d.t.story(l))
}

// means returns how many requests wait and are served on average, in each column.
func (d *drawing) means(l *lane) (waiting, serving []float64) {
	waiting, serving = make([]float64, columns), make([]float64, columns)
	width := float64(d.t.to-d.t.from) / columns
	for i := range l.moments {
		m := &l.moments[i]
		begin, end := max(m.at, d.t.from), l.end(i, d.t.to)
		for at := begin; at < end; {
			c := min(int(float64(at-d.t.from)/width), columns-1)
			next := min(end, d.t.from+time.Duration(float64(c+1)*width)+1)
			part := float64(next-at) / width
			waiting[c] += part * float64(m.waiting)
			serving[c] += part * float64(m.inFlight)
			at = next
		}
	}
	return waiting, serving
}

// end returns when a moment ends.
func (l *lane) end(i int, to time.Duration) time.Duration {
	if i+1 < len(l.moments) {
		return min(to, l.moments[i+1].at)
	}
	return to
}

// most returns how many requests waited at most.
func (l *lane) most() (n int) {
	for i := range l.moments {
		n = max(n, l.moments[i].waiting)
	}
	return n
}

// highest returns the largest of some values.
func highest(values []float64) (most float64) {
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// area draws a value for each column.
func (d *drawing) area(class string, values []float64, foot, unit float64) {
	var path strings.Builder
	for i := 0; i < len(values); i++ {
		if values[i] == 0 {
			continue
		}
		fmt.Fprintf(&path, "M%d %s", svgLeft+i, round(foot))
		for last := ""; i < len(values) && values[i] > 0; i++ {
			// What is there at all can be seen.
			if y := round(foot - max(1, values[i]*unit)); y != last {
				fmt.Fprintf(&path, "H%dV%s", svgLeft+i, y)
				last = y
			}
		}
		fmt.Fprintf(&path, "H%dV%sZ", svgLeft+i, round(foot))
	}
	if path.Len() > 0 {
		d.printf(`<path class="%s" d="%s"/>`, class, path.String())
	}
}

// bars draws the times in which something is so.
func (d *drawing) bars(class string, l *lane, y int, is func(*moment) bool) {
	for i := 0; i < len(l.moments); i++ {
		if !is(&l.moments[i]) {
			continue
		}
		from := l.moments[i].at
		for i+1 < len(l.moments) && is(&l.moments[i+1]) {
			i++
		}
		to := l.end(i, d.t.to)
		if to < d.t.from || from > d.t.to {
			continue
		}
		x := d.x(from)
		d.printf(`<rect class="%s" x="%s" y="%d" width="%s" height="%d"/>`, class, round(x), y, round(max(1, d.x(to)-x)), laneServes)
	}
}
