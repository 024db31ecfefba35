// SPDX-License-Identifier: Apache-2.0

// Package show says in words for people what the model says in fields. In: *model.Event and its parts.
// Out: one line each, escaped for a terminal, without colours or columns; the commands and the live
// view add those.
package show
