/** Starts the playground. */

import { render } from "preact";
import { App } from "./app.js";
import { start } from "./server.js";
import "./style/base.css";
import "./style/frame.css";
import "./style/chat.css";
import "./style/markdown.css";
import "./style/panel.css";
import "./style/system.css";

render(<App />, document.getElementById("root") as HTMLElement);
start();
