// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

func newAdmitController(env Env) *cobra.Command { return &cobra.Command{Use: "controller"} }
