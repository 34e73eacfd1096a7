package kubetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// object is a JSON object.
type object = map[string]any

// namespaces counts those of [Server.Namespace], which are given names by it.
var namespaces atomic.Int64

// Do sends a request as the administrator and returns the answer. The body is
// marshaled as JSON, unless it is nil (none) or a []byte (JSON already). A patch is a
// strategic merge patch.
func (s *Server) Do(t testing.TB, method, path string, body any) (code int, answer []byte) {
	t.Helper()
	code, answer, err := s.sendJSON(context.Background(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return code, answer
}

// Must is [Server.Do], and fails the test unless the answer is a success. It decodes
// the answer into out, unless that is nil.
func (s *Server) Must(t testing.TB, method, path string, body, out any) {
	t.Helper()
	code, answer := s.Do(t, method, path, body)
	if code < 200 || code > 299 {
		t.Fatalf("%s %s: %d: %s", method, path, code, message(answer))
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatalf("%s %s: %v in %.200s", method, path, err, answer)
	}
}

// Namespace makes a namespace for the test, and deletes it with its pods at the end.
func (s *Server) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", namespaces.Add(1))
	s.Must(t, http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": name}}, nil)
	t.Cleanup(func() { s.deleteNamespace(t, name) })
	return name
}

// deleteNamespace does what a namespace controller would, as far as pods go, unless
// the test has killed the server.
func (s *Server) deleteNamespace(t testing.TB, name string) {
	t.Helper()
	s.mu.Lock()
	killed := s.api == nil
	s.mu.Unlock()
	if killed {
		return
	}
	path := "/api/v1/namespaces/" + name
	s.Must(t, http.MethodDelete, path, nil, nil) // First, so that nothing new comes.
	s.Must(t, http.MethodDelete, path+"/pods?gracePeriodSeconds=0", nil, nil)
	s.Must(t, http.MethodPut, path+"/finalize", object{"metadata": object{"name": name}, "spec": object{}}, nil)
}

// Token returns a token of a service account, which is valid for an hour.
func (s *Server) Token(t testing.TB, namespace, serviceAccount string) string {
	t.Helper()
	return s.token(t, namespace, serviceAccount, object{})
}

// RevocableToken returns a token of a service account, and a function that revokes
// it. That returns when the API server refuses the token, which takes 10 seconds: as
// long as the server remembers that it was valid.
func (s *Server) RevocableToken(t testing.TB, namespace, serviceAccount string) (token string, revoke func()) {
	t.Helper()
	secrets := "/api/v1/namespaces/" + namespace + "/secrets"
	var secret struct {
		Metadata struct{ Name, UID string }
	}
	s.Must(t, http.MethodPost, secrets, object{"metadata": object{"generateName": "token-"}}, &secret)
	token = s.token(t, namespace, serviceAccount, object{"boundObjectRef": object{
		"apiVersion": "v1", "kind": "Secret", "name": secret.Metadata.Name, "uid": secret.Metadata.UID,
	}})
	return token, func() {
		t.Helper()
		s.Must(t, http.MethodDelete, secrets+"/"+secret.Metadata.Name, nil, nil)
		s.waitRefused(t, token)
	}
}

// token asks for a token.
func (s *Server) token(t testing.TB, namespace, serviceAccount string, spec object) string {
	t.Helper()
	var answer struct{ Status struct{ Token string } }
	path := fmt.Sprintf("/api/v1/namespaces/%s/serviceaccounts/%s/token", namespace, serviceAccount)
	s.Must(t, http.MethodPost, path, object{"spec": spec}, &answer)
	return answer.Status.Token
}

// waitRefused waits until nobody is let in by token.
func (s *Server) waitRefused(t testing.TB, token string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		code, _, err := s.sendAs(context.Background(), token, http.MethodGet, "/api", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if code == http.StatusUnauthorized {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v after it was revoked, the token is good for %d", patience, code)
		}
	}
}

// sendJSON sends a request as the administrator.
func (s *Server) sendJSON(ctx context.Context, method, path string, body any) (int, []byte, error) {
	text, isText := body.([]byte)
	if body != nil && !isText {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	contentType := "application/json"
	if method == http.MethodPatch {
		contentType = "application/strategic-merge-patch+json"
	}
	return s.send(ctx, method, path, contentType, text)
}

// send sends a request as the administrator.
func (s *Server) send(ctx context.Context, method, path, contentType string, body []byte) (int, []byte, error) {
	return s.sendAs(ctx, s.Admin, method, path, contentType, body)
}

// sendAs sends a request with a bearer token.
func (s *Server) sendAs(ctx context.Context, token, method, path, contentType string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// message returns what an answer of the API server says, as text.
func message(answer []byte) string {
	var status struct{ Message string }
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		return status.Message
	}
	return strings.TrimSpace(string(answer))
}

// compact compacts etcd to the newest revision, through its gateway for JSON.
func (s *Server) compact() error {
	var answer struct{ Header struct{ Revision string } }
	key := base64.StdEncoding.EncodeToString([]byte("\x00"))
	if err := s.askEtcd("/v3/kv/range", object{"key": key}, &answer); err != nil {
		return err
	}
	return s.askEtcd("/v3/kv/compaction", object{"revision": answer.Header.Revision, "physical": true}, nil)
}

// askEtcd calls a method of etcd.
func (s *Server) askEtcd(path string, body object, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := s.client.Post(s.etcdURL+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd: %s: %s: %s", path, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
