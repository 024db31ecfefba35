// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	pb "github.com/vigie-io/vigie/api/vigie/v1"
	"github.com/vigie-io/vigie/api/vigie/v1/vigiev1connect"
)

// A call that is added to the API and not here fails this: with no node to ask, each says so, and none that it is not known.
func TestEveryCallIsAnswered(t *testing.T) {
	r := startRelay(t, nil)
	_, handler := vigiev1connect.NewVigieHandler(r.API())
	methods := pb.File_vigie_v1_vigie_proto.Services().ByName("Vigie").Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		if m.IsStreamingServer() {
			continue // their tests are their own
		}
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/vigie.v1.Vigie/"+string(m.Name()), strings.NewReader("{}"))
		q.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, q)
		body, err := io.ReadAll(w.Result().Body)
		if err != nil || w.Code == http.StatusNotImplemented || strings.Contains(string(body), "unimplemented") {
			t.Errorf("%s: %d, %s, %v", m.Name(), w.Code, body, err)
		}
	}
}
