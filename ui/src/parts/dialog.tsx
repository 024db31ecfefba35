// SPDX-License-Identifier: Apache-2.0

import { type ReactNode, useEffect, useId, useRef } from "react";

/** A dialog over the page. Escape and the cross close it; the focus comes back to where it was. */
export function Dialog({
  title,
  close,
  children,
  foot,
}: {
  title: string;
  close: () => void;
  children: ReactNode;
  foot?: ReactNode;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog ref={element} aria-labelledby={id} onClose={close}>
      <header>
        <h2 id={id} className="grow">
          {title}
        </h2>
        <button type="button" className="plain" aria-label="Close" onClick={() => element.current?.close()}>
          ✕
        </button>
      </header>
      <div className="body">{children}</div>
      <footer>{foot}</footer>
    </dialog>
  );
}
