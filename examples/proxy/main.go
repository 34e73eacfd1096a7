// Command proxy serves many AI models behind one address while only some of them
// fit in memory. Without a configuration it has three demo models.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"example.com/scheduler/examples/internal/config"
	"example.com/scheduler/examples/internal/demo"
	"example.com/scheduler/examples/internal/lossy"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == demo.Command {
		if err := demo.Main(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// A write to a pipe without a reader is to fail and not to end the program. To
	// ignore the signal would be simpler, but the models would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(proxyMain(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// proxyMain is the main function of the proxy, and returns its exit code: 0 after a
// graceful end, 1 if it could not start or not end cleanly, 2 for wrong arguments.
func proxyMain(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	out, errout := lossy.New(stdout), lossy.New(stderr)
	defer errout.Flush(lastWords)
	defer out.Flush(lastWords)
	o, err := parseOptions(args, errout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if o.version {
		version, revision := build()
		fmt.Fprintln(stdout, "proxy", version, revision, runtime.Version())
		return 0
	}
	cfg, err := o.first(signals)
	if err != nil {
		fmt.Fprintln(errout, err)
		return 1
	}
	if o.check {
		return checked(cfg, stdout)
	}
	log := newLogger(errout, o)
	slog.SetDefault(log) // For what the standard library logs.
	p, err := startProxy(o, cfg, log)
	if err != nil {
		fmt.Fprintln(errout, err)
		return 1
	}
	p.greet(out)
	return p.wait(signals)
}

// lastWords is how long the end of the program waits for what is not yet written.
const lastWords = time.Second

// newLogger makes the logger that o asks for, which says in its own form how many
// lines w has lost.
func newLogger(w *lossy.Writer, o options) *slog.Logger {
	to := func(w io.Writer) *slog.Logger {
		level := &slog.HandlerOptions{Level: o.level}
		if o.json {
			return slog.New(slog.NewJSONHandler(w, level))
		}
		return slog.New(slog.NewTextHandler(w, level))
	}
	w.ReportBy(func(w io.Writer, lost int) { to(w).Error("lines lost", "lines", lost) })
	return to(w)
}

// options are the command line.
type options struct {
	listen  string // "": as the configuration says
	file    string // "": the demo
	level   slog.Level
	json    bool // the log
	check   bool // only the configuration
	version bool // only say it
}

func parseOptions(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("proxy", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.listen, "listen", "", "address to listen on, `HOST:PORT`; port 0 takes a free one (default 127.0.0.1:8080)")
	f.StringVar(&o.file, "config", "", "configuration `FILE` (JSON); without one there are three demo models")
	f.Func("log", "lowest `LEVEL` of what is logged: debug, output (what models print), info, warn or error (default info)", o.setLevel)
	f.Func("log-format", "`FORMAT` of the log: text or json (default text)", o.setFormat)
	f.BoolVar(&o.check, "check", false, "check the configuration, print warnings, and exit: 0 if it can be used, 1 if not")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	if err = f.Parse(args); err == nil && f.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
		fmt.Fprintln(stderr, err)
	}
	return o, err
}

// setLevel takes the value of -log.
func (o *options) setLevel(name string) error {
	if strings.EqualFold(name, "output") {
		o.level = levelOutput
		return nil
	}
	return o.level.UnmarshalText([]byte(name))
}

// setFormat takes the value of -log-format.
func (o *options) setFormat(name string) error {
	if o.json = name == "json"; !o.json && name != "text" {
		return errors.New("neither text nor json")
	}
	return nil
}

// config reads the configuration that o names.
func (o options) config() (cfg *config.Config, err error) {
	if o.file == "" {
		cfg = demo.Config()
	} else if data, err := os.ReadFile(o.file); err != nil {
		return nil, err
	} else if cfg, err = config.Parse(o.file, data); err != nil {
		return nil, err
	}
	cfg.Listen = cmp.Or(o.listen, cfg.Listen)
	return cfg, nil
}

// reading is what reading the configuration has led to.
type reading struct {
	cfg *config.Config
	err error
}

// read reads the configuration in the background, since that may never end: the file
// may be a pipe, or on a server that is gone.
func (o options) read() <-chan reading {
	read := make(chan reading, 1)
	go func() {
		cfg, err := o.config()
		read <- reading{cfg, err}
	}()
	return read
}

// first reads the configuration unless a signal ends the program meanwhile.
func (o options) first(signals <-chan os.Signal) (*config.Config, error) {
	for read := o.read(); ; {
		select {
		case r := <-read:
			return r.cfg, r.err
		case s := <-signals:
			if s != syscall.SIGHUP {
				return nil, fmt.Errorf("ended by %v while reading %s", s, o.file)
			}
		}
	}
}

// checked says what is doubtful in cfg, and returns the exit code.
func checked(cfg *config.Config, stdout io.Writer) int {
	for _, warning := range cfg.Warnings() {
		fmt.Fprintln(stdout, "warning:", warning)
	}
	fmt.Fprintln(stdout, "the configuration can be used")
	return 0
}

// proxy is a running proxy.
type proxy struct {
	options options
	started *config.Config // what it was started with
	log     *slog.Logger
	service service
	server  *http.Server
	address net.Addr
	failed  chan error // the server has ended by itself
}

// startProxy starts a proxy with cfg. Once it returns, requests are accepted.
func startProxy(o options, cfg *config.Config, log *slog.Logger) (*proxy, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w; -listen HOST:PORT takes another address", err)
	}
	warn(log, cfg)
	p := &proxy{options: o, started: cfg, log: log, address: listener.Addr(), failed: make(chan error, 1)}
	if cfg.Kubernetes == nil {
		p.service, err = newStandalone(cfg, p.address, log)
	} else {
		p.service, err = newReplica(cfg, p.address, log)
	}
	if err != nil {
		listener.Close()
		return nil, err
	}
	p.server = newServer(p.service, log)
	go func() { p.failed <- p.server.Serve(newLimitedListener(listener, p.server, log)) }()
	return p, nil
}

// url is where the proxy answers, for somebody on this machine.
func (p *proxy) url() string {
	host, port, _ := net.SplitHostPort(p.address.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// greet says where the proxy answers and what to try.
func (p *proxy) greet(w io.Writer) {
	fmt.Fprintf(w, "listening on %s\n", p.url())
	if p.options.file != "" {
		return
	}
	fmt.Fprint(w, strings.ReplaceAll(`try:
  curl URL/v1/models
  curl URL/v1/chat/completions -d '{"model":"alpha","messages":[{"role":"user","content":"Hello"}]}'
  curl -N URL/v1/chat/completions -d '{"model":"beta","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
  curl URL/running
  curl -X POST 'URL/unload?model=beta'
and look at URL/ in a browser
`, "URL", p.url()))
}

// wait handles signals until the proxy ends, and returns its exit code.
func (p *proxy) wait(signals <-chan os.Signal) int {
	var read <-chan reading // of the latest SIGHUP: an earlier one whose reading hangs is forgotten
	for {
		select {
		case r := <-read:
			p.reload(r.cfg, r.err)
		case err := <-p.failed:
			p.log.Error("server failed", "err", err)
			p.end(signals)
			return 1
		case s := <-signals:
			if s == syscall.SIGHUP {
				read = p.options.read()
				continue
			}
			p.log.Info("ending", "signal", s.String())
			return p.end(signals)
		}
	}
}

// reload makes cfg the configuration. One that could not be read, or is broken, changes
// nothing.
func (p *proxy) reload(cfg *config.Config, err error) {
	if err == nil && (cfg.Kubernetes == nil) != (p.started.Kubernetes == nil) {
		err = errors.New("kubernetes: only a restart adds or removes it")
	}
	if err == nil {
		err = p.service.reload(cfg)
	}
	if err != nil {
		p.log.Error("configuration not reloaded", "err", err)
		return
	}
	p.log.Info("configuration reloaded", "file", p.options.file)
	if settings := p.started.NeedsRestart(cfg); len(settings) > 0 {
		p.log.Warn("settings changed that only a restart takes over", "settings", settings)
	}
	warn(p.log, cfg)
}

// warn logs what is doubtful in cfg.
func warn(log *slog.Logger, cfg *config.Config) {
	for _, warning := range cfg.Warnings() {
		log.Warn("doubtful configuration", "warning", warning)
	}
}

// end ends the proxy gracefully: nobody new, those in flight may finish, then
// every process is stopped. A second signal ends everything at once.
func (p *proxy) end(signals <-chan os.Signal) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(p.service.config().DrainTimeout))
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGHUP {
					continue
				}
				p.log.Warn("ending at once", "signal", s.String())
				p.service.kill()
				p.server.Close()
				cancel()
			case <-done:
				return
			}
		}
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		if p.server.Shutdown(ctx) != nil {
			p.server.Close() // Who is still there after the time-out is cut off.
		}
	}()
	err := p.service.shutdown(ctx)
	<-drained
	if err != nil {
		p.log.Error("not everything has ended", "err", err)
		return 1
	}
	return 0
}
