// SPDX-License-Identifier: Apache-2.0

package sql

import (
	"strings"
	"testing"
)

func TestStatement(t *testing.T) {
	for text, want := range map[string]string{
		"select * from users where name = 'from secrets'":                   "SELECT users",
		"SELECT 'it''s from a', \"x y\" FROM public.\"Users\" u":            "SELECT public.Users",
		"/* from hidden */ -- from x\n (select 1) ":                         "SELECT ",
		"insert  into orders(id) values (1)":                                "INSERT orders",
		"INSERT INTO `shop`.`orders` VALUES ('x')":                          "INSERT shop.orders",
		"update only accounts set password = 'secret'":                      "UPDATE accounts",
		"delete from \"a secret table\"":                                    "DELETE ",
		"with x as (select secret from y), z as (values (1)) delete from t": "DELETE t",
		"BEGIN":                              "BEGIN ",
		"create user anna password 'secret'": "CREATE ",
		"set password = 'secret'":            "SET ",
		"copy t (a) from stdin":              "COPY t",
		"truncate table logs":                "TRUNCATE logs",
		"select * from (select 1) x":         "SELECT ",
		"secret select":                      " ",
		"select 'unterminated from x":        "SELECT ",
		"":                                   " ",
		"select 'a\\' from secret' from t":   "SELECT t",
		"replace into cache values(1)":       "REPLACE cache",
		"select count(*) from " + strings.Repeat("x", 200): "SELECT ",
	} {
		kind, table := Statement([]byte(text))
		if got := kind + " " + table; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzStatement(f *testing.F) {
	f.Add([]byte("with a as (select 'x') insert into b.\"c\" values ($1, 'y')"))
	f.Fuzz(func(t *testing.T, text []byte) {
		kind, table := Statement(text)
		if kind != "" && !kinds[kind] || strings.ContainsAny(table, "'\" \n") || len(table) > 128 {
			t.Errorf("%q %q", kind, table)
		}
	})
}
