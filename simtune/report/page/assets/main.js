"use strict";
// Starts what makes the page interactive; before this ran, it is complete without.

document.documentElement.classList.add("scripted");
startArmSwitches();
chooser.start();
startFigures();
startTrials();
