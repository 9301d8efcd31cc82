/* The workbench. Everything works without this as a plain form. */
"use strict";
