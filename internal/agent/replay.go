// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
)

func (a *Agent) replay(context.Context) error { return errors.New("not yet") }
