// A browser starts no worker for a page that was opened from disk. Search then runs in an invisible frame instead.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data }));
      this.loaded = new Promise((resolve, reject) => {
        const script = this.frame.contentDocument.createElement("script");
        script.onload = resolve;
        script.onerror = reject;
        script.src = new URL(url, location.href);
        this.frame.contentDocument.body.append(script);
      });
      this.loaded.catch((error) => this.onerror?.(error));
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.onmessage({ data })).catch(() => {});
    }

    terminate() {
      this.frame.remove();
    }
  };
}
