// Ctrl-C and SIGTERM take everything away that a measurement with servers made.

/** @param {{ close(): Promise<void> }} workspace */
export function closeWhenInterrupted(workspace) {
  // Something has to keep the event loop alive while the last processes end.
  const alive = setInterval(() => {}, 60_000);
  const leave = () => {
    void workspace.close().finally(() => process.exit(130));
  };
  process.once('SIGINT', leave);
  process.once('SIGTERM', leave);
  return {
    cancel() {
      clearInterval(alive);
      process.off('SIGINT', leave);
      process.off('SIGTERM', leave);
    },
  };
}
