"use strict";
/* Comfort only: every page works without this file. Keys press the buttons that show them; a failed save stays. */
(() => {
  const byId = (id) => document.getElementById(id);
  const store = { get: (k) => { try { return localStorage.getItem(k); } catch { return null; } },
                  set: (k, v) => { try { localStorage.setItem(k, v); } catch { /* private mode */ } } };

  const keysOn = () => store.get("keys") !== "off";
  const showKeys = () => {
    document.documentElement.classList.toggle("no-keys", !keysOn());
    const button = byId("keys-switch");
    if (button) { button.hidden = false; button.setAttribute("aria-pressed", String(keysOn())); }
  };

  const typing = (element) => element && (element.isContentEditable
    || ["TEXTAREA", "SELECT"].includes(element.tagName)
    || (element.tagName === "INPUT" && !["radio", "checkbox"].includes(element.type)));

  const press = (target) => {
    if (target.type === "radio") { target.checked = true; target.dispatchEvent(new Event("change", { bubbles: true })); target.focus(); }
    else if (target.tagName === "TEXTAREA" || target.tagName === "SUMMARY") { if (target.tagName === "SUMMARY") target.click(); target.focus(); }
    else { target.click(); }
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing(document.activeElement)) { document.activeElement.blur(); return; }
    if (!keysOn() || typing(document.activeElement)) return;
    if (event.key === "Enter" && ["A", "BUTTON", "SUMMARY"].includes(document.activeElement?.tagName)) return;
    const key = event.key === "Enter" ? "enter" : event.key.toLowerCase();
    if (!/^[a-z0-9]$|^enter$/.test(key)) return;
    const target = document.querySelector(`[data-key="${key}"]`);
    if (target && !target.disabled) { event.preventDefault(); press(target); }
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("#keys-switch")) { store.set("keys", keysOn() ? "off" : "on"); showKeys(); }
  });

  const tell = (text, kind) => {
    const state = byId("save-state");
    if (!state) return;
    state.className = kind ? `note ${kind}` : "dim";
    state.textContent = text;
  };
  const ownForm = (event) => event.target?.closest?.("[data-saves]");
  const isDraft = (event) => event.target?.closest?.("[data-draft]");

  document.addEventListener("htmx:before:request", (event) => {
    if (ownForm(event) && !isDraft(event)) tell("Saving…");
  });
  const failed = (event, why) => {
    if (isDraft(event)) return;
    if (ownForm(event)) tell(`Not saved: ${why} Your answer is still here; press “Save and next” to try again.`, "bad");
  };
  document.addEventListener("htmx:error", (event) => {
    const late = String(event.detail?.ctx?.request?.signal?.reason ?? "") === "timeout";
    failed(event, late ? "the server did not answer in time." : "the server could not be reached.");
  });
  document.addEventListener("htmx:response:error", (event) => {
    const status = event.detail?.ctx?.response?.status;
    if (status === 422) return; /* shown beside the question */
    if (status === 401 || status === 403) failed(event, "you are signed out. Open your link in another window, then come back.");
    else failed(event, `the server answered with an error (${status}).`);
  });
  document.addEventListener("htmx:after:swap", () => {
    showKeys();
    const heading = document.querySelector("#screen [data-focus]");
    if (heading) { heading.focus({ preventScroll: true }); if (window.scrollY > 0) window.scrollTo(0, 0); }
    const wrong = document.querySelector("#screen .error");
    if (wrong) { wrong.scrollIntoView({ block: "nearest" }); }
  });
  showKeys();
})();
